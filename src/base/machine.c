/* How it works. The system's own count, then every limit that the control groups on the path to
 * this process set: version 2 at each level of the path, version 1 at its mount. The smallest wins.
 */
#include "base/machine.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

#ifdef __linux__

enum { CPUS_MAX = 8192, TEXT_BYTES_MAX = 4096, PATH_BYTES_MAX = 4400 };

static const char CGROUP_ROOT[] = "/sys/fs/cgroup";

/* A small file of the kernel as text; false when it is not there. */
static bool read_text(const char *path, char out[TEXT_BYTES_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, out, TEXT_BYTES_MAX - 1);
    close(fd);
    out[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* Our version 2 group, "/a/b", into out; "" when there is none. */
static void own_group(char out[TEXT_BYTES_MAX])
{
    char text[TEXT_BYTES_MAX];
    out[0] = '\0';
    if (!read_text("/proc/self/cgroup", text))
        return;
    const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (!line)
        return;
    line += *line == '\n' ? 4 : 3;
    snprintf(out, TEXT_BYTES_MAX, "%.*s", (int)strcspn(line, "\n"), line);
}

/* Calls visit with the text of `file` at each level from our group up to the root. */
static void each_level(const char *file, void (*visit)(const char *text, uint64_t *limit),
                       uint64_t *limit)
{
    char group[TEXT_BYTES_MAX], path[PATH_BYTES_MAX], text[TEXT_BYTES_MAX];
    own_group(group);
    for (;;) {
        int n = snprintf(path, sizeof path, "%s%s/%s", CGROUP_ROOT, group, file);
        if (n > 0 && (size_t)n < sizeof path && read_text(path, text))
            visit(text, limit);
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

static void lower(uint64_t *limit, uint64_t value)
{
    if (value > 0 && value < *limit)
        *limit = value;
}

/* "200000 100000" (quota and period in µs) or "max 100000". */
static void visit_cpu_max(const char *text, uint64_t *cpus)
{
    char *end = NULL;
    unsigned long long quota = strtoull(text, &end, 10);
    unsigned long long period = strtoull(end, NULL, 10);
    if (end != text && period > 0)
        lower(cpus, (quota + period - 1) / period);
}

static void visit_bytes(const char *text, uint64_t *bytes)
{
    lower(bytes, strtoull(text, NULL, 10)); /* "max" reads as 0, no limit */
}

static uint64_t affinity_count(void)
{
    size_t set_bytes = CPU_ALLOC_SIZE(CPUS_MAX);
    unsigned long set[CPUS_MAX / (8 * sizeof(unsigned long))] = {0};
    if (set_bytes > sizeof set || sched_getaffinity(0, sizeof set, (cpu_set_t *)set) != 0)
        return 0;
    uint64_t count = 0;
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        count += (uint64_t)__builtin_popcountl(set[i]);
    return count;
}

int cpu_count(void)
{
    char quota[TEXT_BYTES_MAX], period[TEXT_BYTES_MAX];
    uint64_t count = affinity_count();
    if (count == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online > 0 ? (uint64_t)online : 1;
    }
    each_level("cpu.max", visit_cpu_max, &count);
    if (read_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota) && quota[0] != '-' &&
        read_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period)) {
        unsigned long long q = strtoull(quota, NULL, 10), p = strtoull(period, NULL, 10);
        if (p > 0)
            lower(&count, (q + p - 1) / p);
    }
    return (int)count;
}

uint64_t machine_ram_bytes(void)
{
    char text[TEXT_BYTES_MAX];
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
    each_level("memory.max", visit_bytes, &bytes);
    if (read_text("/sys/fs/cgroup/memory/memory.limit_in_bytes", text))
        visit_bytes(text, &bytes);
    return bytes;
}

uint64_t machine_resident_bytes(void)
{
    char text[TEXT_BYTES_MAX];
    if (!read_text("/proc/self/statm", text))
        return 0;
    char *end = NULL;
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

#else

int cpu_count(void)
{
#ifdef __APPLE__
    int fast = 0;
    size_t size = sizeof fast;
    if (sysctlbyname("hw.perflevel0.logicalcpu", &fast, &size, NULL, 0) == 0 && fast > 0)
        return fast;
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

uint64_t machine_ram_bytes(void)
{
#ifdef __APPLE__
    uint64_t bytes = 0;
    size_t size = sizeof bytes;
    if (sysctlbyname("hw.memsize", &bytes, &size, NULL, 0) == 0 && bytes > 0)
        return bytes;
#endif
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
}

uint64_t machine_resident_bytes(void)
{
#ifdef __APPLE__
    mach_task_basic_info_data_t info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) ==
        KERN_SUCCESS)
        return info.resident_size;
#endif
    return 0;
}

#endif

uint64_t machine_allow_files(uint64_t wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return UINT64_MAX;
    struct rlimit more = limit;
    more.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : (rlim_t)wanted;
#ifdef __APPLE__
    if (more.rlim_cur > OPEN_MAX) /* the most that may be asked for, whatever rlim_max says */
        more.rlim_cur = OPEN_MAX;
#endif
    if (more.rlim_cur > limit.rlim_cur && setrlimit(RLIMIT_NOFILE, &more) == 0)
        limit = more;
    return limit.rlim_cur;
}
