/* Children: this program starts itself again with the name of a part to play as first argument. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/resource.h>

#include "base/frame.h"
#include "base/proc.h"

enum { WAIT_MS = 60000, FRAME_ECHO = 7, FRAME_READY = 8 };

/* --- parts that a child plays
 * ------------------------------------------------------------------------ */

static int child_open(struct frame_conn *conn)
{
    struct err err = {0};
    if (proc_child_init(PROC_CONTROL_FD, &err) != 0 ||
        frame_conn_init(conn, PROC_CONTROL_FD, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

/* Sends every frame back until the parent goes away. */
static int play_echo(void)
{
    struct err err = {0};
    struct frame_conn conn;
    struct buf payload;
    uint8_t type = 0;
    if (child_open(&conn) != 0)
        return 3;
    buf_init(&payload, FRAME_BYTES_MAX);
    while (frame_recv(&conn, &type, &payload, -1, &err) == 0)
        if (frame_send(&conn, type, payload.data, payload.len, WAIT_MS, &err) != 0)
            break;
    buf_release(&payload);
    return err.code == ERR_CLOSED ? 0 : 4;
}

/* Reports its descriptors, standard input and one variable of its environment. */
static int play_report(void)
{
    struct err err = {0};
    struct frame_conn conn;
    char text[256];
    int open_fds = 0;
    if (child_open(&conn) != 0)
        return 3;
    for (int fd = PROC_CONTROL_FD + 1; fd < 256; fd++)
        open_fds += fcntl(fd, F_GETFD) >= 0;
    char byte;
    const char *value = getenv("PROC_TEST_VALUE");
    int n = snprintf(text, sizeof text, "extra=%d stdin=%d cloexec=%d value=%s", open_fds,
                     (int)read(0, &byte, 1), fcntl(PROC_CONTROL_FD, F_GETFD) & FD_CLOEXEC,
                     value ? value : "none");
    return frame_send(&conn, FRAME_READY, text, (size_t)n, WAIT_MS, &err) == 0 ? 0 : 4;
}

/* Holds a lock on argv[2] until it is killed; with `watch` by its own thread, else by the kernel.
 */
static int play_hold(const char *path, bool watched)
{
    struct err err = {0};
    struct frame_conn conn;
    if (child_open(&conn) != 0)
        return 3;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        return 4;
    if (watched && proc_child_watch(PROC_CONTROL_FD, &err) != 0)
        return 5;
    if (frame_send(&conn, FRAME_READY, "", 0, WAIT_MS, &err) != 0)
        return 6;
    for (;;)
        pause();
}

/* Starts a child of its own that holds a lock, says so, and then waits to be killed. */
static int play_parent(const char *path)
{
    struct err err = {0};
    struct frame_conn conn, inner;
    struct buf payload;
    struct proc proc = {0};
    uint8_t type = 0;
    const char *argv[] = {"test", "hold", path, NULL};
    struct proc_options options = {.argv = argv};
    if (child_open(&conn) != 0)
        return 3;
    buf_init(&payload, 64);
    if (proc_spawn(&proc, &options, &err) != 0 ||
        frame_conn_init(&inner, proc.control, &err) != 0 ||
        frame_recv(&inner, &type, &payload, WAIT_MS, &err) != 0)
        return 4;
    if (frame_send(&conn, FRAME_READY, "", 0, WAIT_MS, &err) != 0)
        return 5;
    for (;;)
        pause();
}

/* Limits itself and says what the system then allows. */
static int play_limit(void)
{
    struct err err = {0};
    struct frame_conn conn;
    struct rlimit core, cpu;
    char text[128] = "", score[16] = "";
    if (child_open(&conn) != 0)
        return 3;
    if (proc_child_limit(1 << 30, 60, &err) != 0)
        return 4;
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_CPU, &cpu);
    void *big = mem_alloc((size_t)2 << 30);
    bool refused = big == NULL;
    mem_free(big);
#ifdef __linux__
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, score, sizeof score - 1) < 0)
        return 5;
    close(fd);
#endif
    int n = snprintf(text, sizeof text, "core=%d cpu=%d refused=%d score=%ld", (int)core.rlim_cur,
                     (int)cpu.rlim_cur, refused, strtol(score, NULL, 10));
    return frame_send(&conn, FRAME_READY, text, (size_t)n, WAIT_MS, &err) == 0 ? 0 : 6;
}

static int play(int argc, char **argv)
{
    if (strcmp(argv[1], "echo") == 0)
        return play_echo();
    if (strcmp(argv[1], "report") == 0)
        return play_report();
    if (strcmp(argv[1], "limit") == 0)
        return play_limit();
    if (strcmp(argv[1], "hold") == 0 && argc > 2)
        return play_hold(argv[2], false);
    if (strcmp(argv[1], "watch") == 0 && argc > 2)
        return play_hold(argv[2], true);
    if (strcmp(argv[1], "parent") == 0 && argc > 2)
        return play_parent(argv[2]);
    if (strcmp(argv[1], "exit") == 0 && argc > 2)
        return (int)strtol(argv[2], NULL, 10);
    return 99;
}

/* --- the tests
 * ------------------------------------------------------------------------------------------ */

static void start(struct proc *proc, const char *part, const char *arg)
{
    struct err err = {0};
    const char *argv[] = {"test", part, arg, NULL};
    struct proc_options options = {.argv = argv};
    assert_ok(proc_spawn(proc, &options, &err), &err);
}

static void receive(struct frame_conn *conn, uint8_t want, struct buf *payload)
{
    struct err err = {0};
    uint8_t type = 0;
    assert_ok(frame_recv(conn, &type, payload, WAIT_MS, &err), &err);
    assert_int_equal(type, want);
}

static void test_echo_over_the_control_socket(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    struct proc_exit how;
    struct frame_conn conn;
    struct buf payload;
    start(&proc, "echo", NULL);
    assert_ok(frame_conn_init(&conn, proc.control, &err), &err);
    buf_init(&payload, FRAME_BYTES_MAX);
    size_t big_bytes = 3 << 20;
    char *big = malloc(big_bytes);
    memset(big, 'x', big_bytes);
    for (int i = 0; i < 3; i++) {
        assert_ok(frame_send(&conn, FRAME_ECHO, "hello", 5, WAIT_MS, &err), &err);
        receive(&conn, FRAME_ECHO, &payload);
        assert_int_equal(payload.len, 5);
    }
    assert_false(proc_poll(&proc, &how));
    assert_ok(frame_send(&conn, FRAME_ECHO, big, 100000, WAIT_MS, &err), &err);
    receive(&conn, FRAME_ECHO, &payload);
    assert_int_equal(payload.len, 100000);
    assert_memory_equal(payload.data, big, 100000);
    frame_shutdown(&conn);
    assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
    assert_false(how.signalled);
    assert_int_equal(how.value, 0);
    free(big);
    buf_release(&payload);
    frame_conn_release(&conn);
    proc_release(&proc);
    proc_release(&proc);
}

static void test_child_inherits_only_what_it_should(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    struct proc_exit how;
    struct frame_conn conn;
    struct buf payload;
    int leak = open("/dev/null", O_RDONLY); /* not close-on-exec, as a careless library opens */
    const char *argv[] = {"test", "report", NULL};
    const char *env[] = {"PROC_TEST_VALUE=given", NULL};
    struct proc_options options = {.argv = argv, .env = env};
    setenv("PROC_TEST_VALUE", "inherited", 1);
    assert_ok(proc_spawn(&proc, &options, &err), &err);
    assert_ok(frame_conn_init(&conn, proc.control, &err), &err);
    buf_init(&payload, 4096);
    receive(&conn, FRAME_READY, &payload);
#ifdef __linux__
    assert_string_equal(payload.data, "extra=0 stdin=0 cloexec=1 value=given");
#else
    assert_non_null(strstr(payload.data, "stdin=0 cloexec=1 value=given"));
#endif
    assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
    assert_int_equal(how.value, 0);
    buf_release(&payload);
    frame_conn_release(&conn);
    proc_release(&proc);
    unsetenv("PROC_TEST_VALUE");
    close(leak);
}

static void note_exit(void *ctx, struct proc_exit how)
{
    atomic_store((atomic_int *)ctx, how.signalled ? -how.value : how.value);
}

static void test_exit_status_signal_and_timeout(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    struct proc_exit how;
    atomic_int seen = 1000;
    const char *argv[] = {"test", "exit", "42", NULL};
    struct proc_options options = {.argv = argv, .on_exit = note_exit, .ctx = &seen};
    assert_ok(proc_spawn(&proc, &options, &err), &err);
    assert_ok(proc_wait(&proc, -1, &how, &err), &err);
    assert_false(how.signalled);
    assert_int_equal(how.value, 42);
    proc_release(&proc); /* waits for a callback that is on its way */
    assert_int_equal(atomic_load(&seen), 42);

    start(&proc, "echo", NULL);
    assert_err(proc_wait(&proc, 1, &how, &err), &err, ERR_TIMEOUT);
    proc_kill(&proc, SIGKILL);
    assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
    assert_true(how.signalled);
    assert_int_equal(how.value, SIGKILL);
    assert_true(proc_poll(&proc, &how));
    proc_kill(&proc, SIGKILL); /* gone: reaches nobody */
    proc_release(&proc);
}

static void test_program_that_cannot_run(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    const char *argv[] = {"x", NULL};
    struct proc_options options = {.path = "/nonexistent/program", .argv = argv};
    assert_err(proc_spawn(&proc, &options, &err), &err, ERR_NOT_FOUND);
    proc_release(&proc);
    options.path = "/dev";
    assert_err(proc_spawn(&proc, &options, &err), &err, ERR_FORBIDDEN);
    proc_release(&proc);
}

/* Blocks until whoever holds the lock on path is dead. */
static void wait_for_death(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    close(fd);
}

static void ready(struct proc *proc)
{
    struct err err = {0};
    struct frame_conn conn;
    struct buf payload;
    assert_ok(frame_conn_init(&conn, proc->control, &err), &err);
    buf_init(&payload, 64);
    receive(&conn, FRAME_READY, &payload);
    buf_release(&payload);
    frame_conn_release(&conn);
}

static void test_grandchild_dies_with_its_killed_parent(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "lock", &err), &err);
    start(&proc, "parent", path);
    ready(&proc);
    proc_kill(&proc, SIGKILL);
    wait_for_death(path);
    proc_release(&proc);
    test_dir_remove(dir);
}

static void test_watching_child_ends_when_its_socket_closes(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    struct proc_exit how;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "lock", &err), &err);
    start(&proc, "watch", path);
    ready(&proc);
    close(proc.control);
    proc.control = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
    assert_false(how.signalled);
    assert_int_equal(how.value, PROC_EXIT_ORPHANED);
    proc_release(&proc);
    /* and a released child is killed */
    start(&proc, "hold", path);
    ready(&proc);
    proc_release(&proc);
    wait_for_death(path);
    test_dir_remove(dir);
}

static void test_spawn_survives_every_fault(void **state)
{
    (void)state;
    static const enum fault_kind KINDS[] = {FAULT_MALLOC, FAULT_SPAWN};
    size_t before = mem_used();
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        for (uint64_t n = 1;; n++) {
            struct err err = {0};
            struct proc proc;
            struct proc_exit how;
            const char *argv[] = {"test", "exit", "0", NULL};
            struct proc_options options = {.argv = argv};
            fault_arm(KINDS[k], n, false);
            int rc = proc_spawn(&proc, &options, &err);
            fault_disarm();
            assert_true(fault_fired() == (rc != 0));
            if (rc == 0)
                assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
            proc_release(&proc);
            assert_true(mem_used() == before);
            if (rc == 0)
                break;
        }
    }
}

/* Sanitizers need the address space that the memory limit would take from them. */
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MEMORY_IS_LIMITED 1
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef MEMORY_IS_LIMITED
#endif
#endif
#endif

static void test_child_limits_itself(void **state)
{
    (void)state;
    struct err err = {0};
    struct proc proc;
    struct proc_exit how;
    struct frame_conn conn;
    struct buf payload;
    start(&proc, "limit", NULL);
    assert_ok(frame_conn_init(&conn, proc.control, &err), &err);
    buf_init(&payload, 256);
    receive(&conn, FRAME_READY, &payload);
    assert_non_null(strstr(payload.data, "core=0 cpu=60 "));
#ifdef MEMORY_IS_LIMITED
    assert_non_null(strstr(payload.data, "refused=1"));
#endif
    assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
    assert_int_equal(how.value, 0);
    buf_release(&payload);
    frame_conn_release(&conn);
    proc_release(&proc);
}

static void test_started_by_hand_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_err(proc_child_init(fd, &err), &err, ERR_INVALID);
    close(fd);
    assert_err(proc_child_init(fd, &err), &err, ERR_INVALID);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return play(argc, argv);
    /* The one that counts memory first: later ones leave the burying of children to the spawner. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spawn_survives_every_fault),
        cmocka_unit_test(test_echo_over_the_control_socket),
        cmocka_unit_test(test_child_inherits_only_what_it_should),
        cmocka_unit_test(test_exit_status_signal_and_timeout),
        cmocka_unit_test(test_program_that_cannot_run),
        cmocka_unit_test(test_grandchild_dies_with_its_killed_parent),
        cmocka_unit_test(test_watching_child_ends_when_its_socket_closes),
        cmocka_unit_test(test_child_limits_itself),
        cmocka_unit_test(test_started_by_hand_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
