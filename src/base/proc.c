/* How it works. Requests to spawn are handed to the spawner thread one at a time; it polls for
 * them and for the end of children (a pidfd each on Linux, one kqueue on macOS, a slow tick where
 * neither is to be had).
 *
 *   proc_spawn ─request→ spawner: posix_spawn → RUNNING ─exit→ reap → EXITED ─→ on_exit
 *                                                   proc_release: owner gone; freed when EXITED too
 *
 * 1. A record is freed when its owner has released it and its child was reaped; `lock` guards both.
 * 2. waitpid for a child and every kill of it happen under `lock`, so a kill never meets a pid that
 *    was reaped and given to somebody else.
 * 3. on_exit runs without the lock; `in_callback` keeps proc_release waiting until it has returned.
 * 4. Only the spawner changes `children`.
 */
#include "base/proc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif
#ifdef __APPLE__
#include <mach-o/dyld.h>
#include <sys/event.h>
#endif

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/thread.h"

enum { TICK_MS = 20, CHILD_END_FD_MIN = 10, NS_PER_MS = 1000000, NS_PER_SECOND = 1000000000 };

extern char **environ;

struct proc_child {
    pid_t pid;
    int exit_fd; /* pidfd or the kqueue, -1 where there is none */
    bool exited;
    bool released;
    bool in_callback;
    struct proc_exit how;
    proc_exit_fn on_exit;
    void *ctx;
};

struct request {
    const struct proc_options *options;
    char **env;
    int child_end;
    struct proc_child *child;
    int errnum;
    bool done;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a request was taken or done, a child ended, a callback returned */
    bool running;
    int wake[2]; /* pipe: a byte makes the spawner look at `request` */
    int kqueue;  /* macOS, else -1 */
    struct request *request;
    struct proc_child *children[PROC_CHILDREN_MAX];
    int count;
} spawner = {.lock = PTHREAD_MUTEX_INITIALIZER,
             .changed = PTHREAD_COND_INITIALIZER,
             .wake = {-1, -1},
             .kqueue = -1};

/* --- posix_spawn
 * ---------------------------------------------------------------------------------- */

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
#define HAVE_CLOSEFROM 1
#endif
#endif

static int fill_actions(posix_spawn_file_actions_t *actions, int child_end)
{
    int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
#ifdef __APPLE__
    if (rc == 0)
        rc = posix_spawn_file_actions_addinherit_np(actions, STDERR_FILENO);
#endif
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, STDERR_FILENO, STDOUT_FILENO);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, child_end, PROC_CONTROL_FD);
#ifdef HAVE_CLOSEFROM
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(actions, PROC_CONTROL_FD + 1);
#endif
    return rc;
}

static int fill_attributes(posix_spawnattr_t *attributes)
{
    short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP;
#ifdef POSIX_SPAWN_CLOEXEC_DEFAULT
    flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    int rc = posix_spawnattr_setflags(attributes, flags);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attributes, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attributes, &all);
    return rc;
}

/* This program's own file. On Linux the link is followed in the child, where it still leads to the
 * same program even when the file was replaced meanwhile. */
static int self_path(char out[FS_PATH_BYTES_MAX])
{
#ifdef __APPLE__
    uint32_t bytes = FS_PATH_BYTES_MAX;
    return _NSGetExecutablePath(out, &bytes) == 0 ? 0 : ENAMETOOLONG;
#else
    memcpy(out, "/proc/self/exe", sizeof "/proc/self/exe");
    return 0;
#endif
}

static int spawn(const struct request *request, pid_t *pid)
{
    char self[FS_PATH_BYTES_MAX];
    const char *path = request->options->path;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (fault_hit(FAULT_SPAWN))
        return EAGAIN;
    int rc = path ? 0 : self_path(self);
    if (rc != 0)
        return rc;
    if ((rc = posix_spawn_file_actions_init(&actions)) != 0)
        return rc;
    if ((rc = posix_spawnattr_init(&attributes)) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return rc;
    }
    rc = fill_actions(&actions, request->child_end);
    if (rc == 0)
        rc = fill_attributes(&attributes);
    if (rc == 0)
        rc = posix_spawn(pid, path ? path : self, &actions, &attributes,
                         (char *const *)(uintptr_t)request->options->argv, request->env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* --- the spawner thread
 * ----------------------------------------------------------------------------- */

/* Makes the poll in `look` return when the child ends. */
static void watch_exit(struct proc_child *child)
{
    child->exit_fd = -1;
#if defined(__linux__) && defined(SYS_pidfd_open)
    child->exit_fd = (int)syscall(SYS_pidfd_open, child->pid, 0);
#elif defined(__APPLE__)
    struct kevent event;
    EV_SET(&event, (uintptr_t)child->pid, EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXIT, 0, NULL);
    if (spawner.kqueue >= 0 && kevent(spawner.kqueue, &event, 1, NULL, 0, NULL) == 0)
        child->exit_fd = spawner.kqueue;
#endif
}

static void unwatch_exit(struct proc_child *child)
{
    if (child->exit_fd >= 0 && child->exit_fd != spawner.kqueue)
        close(child->exit_fd);
    child->exit_fd = -1;
}

static void serve_request(void)
{
    pthread_mutex_lock(&spawner.lock);
    struct request *request = spawner.request;
    if (request && !request->done) {
        struct proc_child *child = request->child;
        /* The lock is kept: a spawn is some hundred µs and nobody may see half a child. */
        if (spawner.count == PROC_CHILDREN_MAX)
            request->errnum = EBUSY;
        else
            request->errnum = spawn(request, &child->pid);
        if (request->errnum == 0) {
            watch_exit(child);
            spawner.children[spawner.count++] = child;
        }
        request->done = true;
        pthread_cond_broadcast(&spawner.changed);
    }
    pthread_mutex_unlock(&spawner.lock);
}

/* Notes the end of children[i]; true when it had ended. The lock is held, and let go during
 * on_exit. */
static bool reap(int i)
{
    struct proc_child *child = spawner.children[i];
    int status = 0;
    pid_t pid = waitpid(child->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return false;
    child->exited = true;
    child->how.signalled = pid > 0 && WIFSIGNALED(status);
    child->how.value = pid < 0 ? -1 : WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    unwatch_exit(child);
    spawner.children[i] = spawner.children[--spawner.count];
    proc_exit_fn on_exit = child->on_exit;
    if (on_exit && !child->released) {
        child->in_callback = true;
        pthread_mutex_unlock(&spawner.lock);
        on_exit(child->ctx, child->how);
        pthread_mutex_lock(&spawner.lock);
        child->in_callback = false;
    }
    bool released = child->released;
    pthread_cond_broadcast(&spawner.changed);
    if (released)
        mem_free(child);
    return true;
}

#ifdef __APPLE__
/* The event comes once, and shortly before waitpid would find the child: it is left to the tick. */
static void note_ending(pid_t pid)
{
    for (int i = 0; i < spawner.count; i++)
        if (spawner.children[i]->pid == pid)
            spawner.children[i]->exit_fd = -1;
}
#endif

/* Sleeps until there is a request or a child may have ended. */
static void look(void)
{
    struct pollfd fds[PROC_CHILDREN_MAX + 1];
    char drop[64];
    int n = 0, timeout = -1;
    fds[n++] = (struct pollfd){.fd = spawner.wake[0], .events = POLLIN};
    for (int i = 0; i < spawner.count; i++) {
        int fd = spawner.children[i]->exit_fd;
        if (fd < 0)
            timeout = TICK_MS;
        else if (fd != spawner.kqueue || n == 1)
            fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    (void)poll(fds, (nfds_t)n, timeout);
    while (read(spawner.wake[0], drop, sizeof drop) > 0) {
    }
#ifdef __APPLE__
    struct kevent event;
    const struct timespec now = {0};
    while (spawner.kqueue >= 0 && kevent(spawner.kqueue, NULL, 0, &event, 1, &now) > 0)
        note_ending((pid_t)event.ident);
#endif
}

static void *spawner_main(void *arg)
{
    (void)arg;
    for (;;) {
        look();
        serve_request();
        pthread_mutex_lock(&spawner.lock);
        for (int i = 0; i < spawner.count;)
            if (!reap(i))
                i++;
        pthread_mutex_unlock(&spawner.lock);
    }
    return NULL;
}

static int pipe_cloexec(int fds[2])
{
    if (pipe(fds) != 0)
        return errno;
    for (int i = 0; i < 2; i++)
        if (fcntl(fds[i], F_SETFD, FD_CLOEXEC) != 0 || fcntl(fds[i], F_SETFL, O_NONBLOCK) != 0)
            return errno;
    return 0;
}

/* Starts the thread at the first call; later calls find it running. */
static int ensure_spawner(struct err *err)
{
    int errnum = 0;
    pthread_mutex_lock(&spawner.lock);
    if (!spawner.running) {
        if (spawner.wake[0] < 0)
            errnum = pipe_cloexec(spawner.wake);
#ifdef __APPLE__
        if (spawner.kqueue < 0)
            spawner.kqueue = kqueue();
#endif
        if (errnum == 0)
            errnum = thread_start_detached(spawner_main, NULL);
        spawner.running = errnum == 0;
    }
    pthread_mutex_unlock(&spawner.lock);
    return errnum == 0 ? 0 : err_set_errno(err, errnum, "cannot start the spawner thread");
}

/* --- the caller's side
 * -------------------------------------------------------------------------------- */

static bool same_variable(const char *a, const char *b)
{
    size_t length = strcspn(a, "=");
    return strncmp(a, b, length + 1) == 0;
}

/* Our environment with the additions over it; the array is new, the texts are borrowed. */
static int build_env(const char *const *additions, char ***out, struct err *err)
{
    size_t ours = 0, theirs = 0, n = 0;
    while (environ && environ[ours])
        ours++;
    while (additions && additions[theirs])
        theirs++;
    if (theirs > PROC_ENV_MAX)
        return err_set(err, ERR_INVALID, "more than %d environment variables for a child",
                       PROC_ENV_MAX);
    char **env = mem_calloc(ours + theirs + 1, sizeof *env);
    if (!env)
        return mem_err(err, (ours + theirs + 1) * sizeof *env);
    for (size_t i = 0; i < ours; i++) {
        bool replaced = false;
        for (size_t k = 0; k < theirs && !replaced; k++)
            replaced = same_variable(additions[k], environ[i]);
        if (!replaced)
            env[n++] = environ[i];
    }
    for (size_t k = 0; k < theirs; k++)
        env[n++] = (char *)(uintptr_t)additions[k];
    *out = env;
    return 0;
}

/* A connected pair, both close-on-exec; the child's end away from the number it will get. */
static int make_pair(int ends[2], struct err *err)
{
    ends[0] = ends[1] = -1;
#ifdef SOCK_CLOEXEC
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
#else
    int rc = socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    if (rc == 0)
        rc = fcntl(ends[0], F_SETFD, FD_CLOEXEC);
#endif
    if (rc == 0) {
        int moved = fcntl(ends[1], F_DUPFD_CLOEXEC, CHILD_END_FD_MIN);
        int errnum = errno;
        close(ends[1]);
        ends[1] = moved;
        errno = errnum;
        rc = moved < 0 ? -1 : 0;
    }
    return rc == 0 ? 0 : err_set_errno(err, errno, "cannot make a control socket");
}

/* Hands the request over and waits for it; requests queue on the lock. */
static void submit(struct request *request)
{
    pthread_mutex_lock(&spawner.lock);
    while (spawner.request)
        pthread_cond_wait(&spawner.changed, &spawner.lock);
    spawner.request = request;
    ssize_t put;
    do
        put = write(spawner.wake[1], "", 1);
    while (put < 0 && errno == EINTR);
    while (!request->done)
        pthread_cond_wait(&spawner.changed, &spawner.lock);
    spawner.request = NULL;
    pthread_cond_broadcast(&spawner.changed);
    pthread_mutex_unlock(&spawner.lock);
}

int proc_spawn(struct proc *proc, const struct proc_options *options, struct err *err)
{
    struct request request = {.options = options};
    int ends[2] = {-1, -1};
    *proc = (struct proc){.control = -1};
    assert(options->argv && options->argv[0]);
    int rc = ensure_spawner(err);
    if (rc == 0)
        rc = build_env(options->env, &request.env, err);
    if (rc == 0)
        rc = make_pair(ends, err);
    if (rc == 0 && !(request.child = mem_calloc(1, sizeof *request.child)))
        rc = mem_err(err, sizeof *request.child);
    if (rc != 0)
        goto out;
    request.child_end = ends[1];
    request.child->on_exit = options->on_exit;
    request.child->ctx = options->ctx;
    submit(&request);
    if (request.errnum == EBUSY)
        rc = err_set(err, ERR_BUSY, "%d children are running, the most allowed", PROC_CHILDREN_MAX);
    else if (request.errnum != 0)
        rc = err_set_errno(err, request.errnum, "cannot start %s",
                           options->path ? options->path : options->argv[0]);
    if (rc != 0)
        goto out;
    *proc = (struct proc){request.child, request.child->pid, ends[0]};
    request.child = NULL;
    ends[0] = -1;
out:
    mem_free(request.child);
    mem_free(request.env);
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    return rc;
}

bool proc_poll(const struct proc *proc, struct proc_exit *how)
{
    pthread_mutex_lock(&spawner.lock);
    bool exited = proc->child->exited;
    if (exited)
        *how = proc->child->how;
    pthread_mutex_unlock(&spawner.lock);
    return exited;
}

int proc_wait(const struct proc *proc, int timeout_ms, struct proc_exit *how, struct err *err)
{
    struct timespec until;
    int errnum = 0;
    if (timeout_ms >= 0) {
        clock_gettime(CLOCK_REALTIME, &until); /* the condition variable's clock on every system */
        int64_t ns = until.tv_nsec + (int64_t)(timeout_ms % 1000) * NS_PER_MS;
        until.tv_sec += timeout_ms / 1000 + ns / NS_PER_SECOND;
        until.tv_nsec = ns % NS_PER_SECOND;
    }
    pthread_mutex_lock(&spawner.lock);
    while (!proc->child->exited && errnum == 0)
        errnum = timeout_ms < 0 ? pthread_cond_wait(&spawner.changed, &spawner.lock)
                                : pthread_cond_timedwait(&spawner.changed, &spawner.lock, &until);
    bool exited = proc->child->exited;
    *how = proc->child->how;
    pthread_mutex_unlock(&spawner.lock);
    return exited ? 0
                  : err_set(err, ERR_TIMEOUT, "process %ld has not ended within %d ms",
                            (long)proc->pid, timeout_ms);
}

void proc_kill(const struct proc *proc, int signal)
{
    pthread_mutex_lock(&spawner.lock);
    if (!proc->child->exited)
        kill(proc->child->pid, signal);
    pthread_mutex_unlock(&spawner.lock);
}

void proc_release(struct proc *proc)
{
    struct proc_child *child = proc->child;
    if (!child)
        return;
    pthread_mutex_lock(&spawner.lock);
    while (child->in_callback)
        pthread_cond_wait(&spawner.changed, &spawner.lock);
    child->released = true;
    bool exited = child->exited;
    if (!exited)
        kill(child->pid, SIGKILL);
    pthread_mutex_unlock(&spawner.lock);
    if (exited)
        mem_free(child);
    close(proc->control);
    *proc = (struct proc){.control = -1};
}
