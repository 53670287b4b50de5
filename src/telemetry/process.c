/* Linux tells most of it in /proc/self, macOS through task_info and sysctl; CPU time and the limit
 * of descriptors are POSIX. /proc is memory, not disk, so a scrape does not wait.
 */
#include "telemetry/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

#include "base/json.h"

enum { PROC_TEXT_BYTES_MAX = 4096 };

#if defined(__linux__)
static bool read_proc(const char *path, char text[PROC_TEXT_BYTES_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, text, PROC_TEXT_BYTES_MAX - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    return true;
}

/* Seconds since 1970 at which the machine started, from its uptime and the wall clock. */
static double boot_time(void)
{
    char text[PROC_TEXT_BYTES_MAX];
    struct timespec now;

    if (!read_proc("/proc/uptime", text) || clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9 - strtod(text, NULL);
}

/* Field 22 of /proc/self/stat is the start in clock ticks after boot, 23 the virtual size, 24 the
 * resident pages. The name in field 2 may hold spaces: counting begins after its ')'. */
static void read_stat(struct process_facts *facts)
{
    char text[PROC_TEXT_BYTES_MAX];
    char *at;
    double boot;

    if (!read_proc("/proc/self/stat", text) || !(at = strrchr(text, ')')))
        return;
    at++;
    for (int field = 3; *at && field <= 24; field++) {
        char *end = at + 1 + strcspn(at + 1, " ");
        if (field == 22 && (boot = boot_time()) >= 0)
            facts->start_time_seconds =
                boot + (double)strtoull(at, NULL, 10) / (double)sysconf(_SC_CLK_TCK);
        if (field == 23)
            facts->virtual_bytes = (int64_t)strtoull(at, NULL, 10);
        if (field == 24)
            facts->resident_bytes = (int64_t)strtoull(at, NULL, 10) * sysconf(_SC_PAGESIZE);
        at = end;
    }
}
#elif defined(__APPLE__)
static void read_stat(struct process_facts *facts)
{
    mach_task_basic_info_data_t info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    struct kinfo_proc proc;
    size_t size = sizeof(proc);
    int name[4] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, getpid()};

    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) ==
        KERN_SUCCESS) {
        facts->virtual_bytes = (int64_t)info.virtual_size;
        facts->resident_bytes = (int64_t)info.resident_size;
    }
    if (sysctl(name, 4, &proc, &size, NULL, 0) == 0)
        facts->start_time_seconds = (double)proc.kp_proc.p_starttime.tv_sec +
                                    (double)proc.kp_proc.p_starttime.tv_usec / 1e6;
}
#else
static void read_stat(struct process_facts *facts)
{
    (void)facts;
}
#endif

static int64_t count_fds(void)
{
    DIR *dir = opendir("/dev/fd");
    int64_t n = 0;

    if (!dir)
        return -1;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 3; /* ".", ".." and the descriptor that reads the folder */
}

void process_facts_read(struct process_facts *facts)
{
    struct rusage usage;
    struct rlimit limit;

    *facts = (struct process_facts){.cpu_seconds = -1,
                                    .start_time_seconds = -1,
                                    .resident_bytes = -1,
                                    .virtual_bytes = -1,
                                    .open_fds = count_fds(),
                                    .max_fds = -1};
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        facts->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        facts->max_fds = (int64_t)limit.rlim_cur;
    read_stat(facts);
}

static void write_row(struct buf *out, const char *name, const char *kind, const char *help,
                      double value)
{
    char text[32];

    if (value < 0)
        return;
    json_format_real(value, text);
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %s\n", name, help, name, kind, name, text);
}

void process_write_prometheus(const struct process_facts *facts, struct buf *out)
{
    write_row(out, "process_cpu_seconds_total", "counter",
              "Total user and system CPU time spent in seconds.", facts->cpu_seconds);
    write_row(out, "process_open_fds", "gauge", "Number of open file descriptors.",
              (double)facts->open_fds);
    write_row(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
              (double)facts->max_fds);
    write_row(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
              (double)facts->virtual_bytes);
    write_row(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
              (double)facts->resident_bytes);
    write_row(out, "process_start_time_seconds", "gauge",
              "Start time of the process since unix epoch in seconds.", facts->start_time_seconds);
}
