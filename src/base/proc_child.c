/* How it works. What a child does for itself right after it started. The order matters: the
 * parent's death is followed first (a signal on Linux, a thread that waits for the event on macOS)
 * and the parent looked at after, so a parent that died in between is noticed by its closed socket
 * (the hub may be process 1, so getppid proves nothing).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __APPLE__
#include <sys/event.h>
#else
#include <poll.h>
#include <sys/prctl.h>
#endif

#include "base/proc.h"
#include "base/thread.h"

#ifdef __APPLE__
/* Whether the other end has closed; `wait`: until it has. poll there tells of a closing only to
 * those who wait for input, too, which is not ours to take; the queue tells them apart. */
static bool hung_up(int fd, bool wait)
{
    const struct timespec now = {0};
    struct kevent event;
    int n = -1, queue = kqueue();
    EV_SET(&event, (uintptr_t)fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, NULL);
    if (queue >= 0 && kevent(queue, &event, 1, NULL, 0, NULL) == 0) {
        do
            n = kevent(queue, NULL, 0, &event, 1, wait ? NULL : &now);
        while (n > 0 ? !(event.flags & EV_EOF) : n < 0 && errno == EINTR);
    }
    if (queue >= 0)
        close(queue);
    return n != 0;
}

static void *parent_watch(void *arg)
{
    struct kevent event;
    int n, queue = (int)(intptr_t)arg;
    do
        n = kevent(queue, NULL, 0, &event, 1, NULL);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        _exit(PROC_EXIT_ORPHANED);
    return NULL;
}

static int follow_parent(struct err *err)
{
    struct kevent event;
    int errnum = 0, queue = kqueue();
    EV_SET(&event, (uintptr_t)getppid(), EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    if (queue < 0 || kevent(queue, &event, 1, NULL, 0, NULL) != 0)
        errnum = errno;
    if (errnum == 0)
        errnum = thread_start_detached(parent_watch, (void *)(intptr_t)queue);
    if (errnum != 0 && queue >= 0)
        close(queue);
    if (errnum == ESRCH) /* gone already, which its socket tells */
        errnum = 0;
    return errnum == 0 ? 0 : err_set_errno(err, errnum, "cannot tie this process to its parent");
}
#else
/* Asks to be chosen before the hub when memory runs out. Raising one's own score is always
 * allowed, a higher one that was inherited stays, and where there is no /proc nothing is lost. */
static void offer_to_oom_killer(void)
{
    static const char SCORE[] = "500";
    char inherited[16] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, inherited, sizeof inherited - 1) > 0 &&
        strtol(inherited, NULL, 10) < strtol(SCORE, NULL, 10) &&
        pwrite(fd, SCORE, sizeof SCORE - 1, 0) < 0) {
        /* a container may forbid it; the child works all the same */
    }
    close(fd);
}

static bool hung_up(int fd, bool wait)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
    for (;;) {
        int n = poll(&poll_fd, 1, wait ? -1 : 0);
        if (n > 0)
            return true;
        if (n == 0)
            return false;
        if (errno != EINTR && errno != EAGAIN)
            return true;
    }
}

static int follow_parent(struct err *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return err_set_errno(err, errno, "cannot tie this process to its parent");
    offer_to_oom_killer();
    return 0;
}
#endif

int proc_child_init(int fd, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode))
        return err_set(err, ERR_INVALID,
                       "descriptor %d is no socket: this command is started by the hub itself", fd);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return err_set_errno(err, errno, "cannot prepare the control socket");
    signal(SIGPIPE, SIG_IGN);
    int rc = follow_parent(err);
    if (rc != 0)
        return rc;
    if (hung_up(fd, false))
        return err_set(err, ERR_CLOSED, "the hub that started this process is gone");
    return 0;
}

static void *watch(void *arg)
{
    int fd = (int)(intptr_t)arg;
    (void)hung_up(fd, true);
    _exit(PROC_EXIT_ORPHANED);
    return NULL;
}

int proc_child_watch(int fd, struct err *err)
{
    const int errnum = thread_start_detached(watch, (void *)(intptr_t)fd);
    return errnum == 0 ? 0 : err_set_errno(err, errnum, "cannot watch the control socket");
}

/* Sanitizers reserve terabytes of address space for their shadow. */
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAN_LIMIT_MEMORY 1
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef CAN_LIMIT_MEMORY
#endif
#endif
#endif

int proc_child_limit(uint64_t memory_bytes, unsigned cpu_seconds, struct err *err)
{
    struct rlimit none = {0, 0};
    int rc = setrlimit(RLIMIT_CORE, &none);
#ifdef CAN_LIMIT_MEMORY
    struct rlimit memory = {(rlim_t)memory_bytes, (rlim_t)memory_bytes};
    if (rc == 0 && memory_bytes)
        rc = setrlimit(RLIMIT_AS, &memory);
#else
    (void)memory_bytes;
#endif
    struct rlimit cpu = {cpu_seconds, (rlim_t)cpu_seconds + 1};
    if (rc == 0 && cpu_seconds)
        rc = setrlimit(RLIMIT_CPU, &cpu);
    return rc == 0 ? 0 : err_set_errno(err, errno, "cannot limit this process");
}
