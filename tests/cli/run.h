/* Runs the program that the build made, with a storage folder of its own, and keeps what it
 * printed.
 */
#ifndef TESTS_CLI_RUN_H
#define TESTS_CLI_RUN_H

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "base/json.h"
#include "test.h"

enum { RUN_WORDS_MAX = 24, RUN_BYTES_MAX = 8 << 20 };

extern char **environ;

struct run {
    char dir[FS_PATH_BYTES_MAX]; /* storage, and the files below */
    char out_path[FS_PATH_BYTES_MAX], err_path[FS_PATH_BYTES_MAX];
    struct buf out, err; /* of the last program that ended */
};

static inline void run_init(struct run *run)
{
    struct err err = {0};
    char storage[FS_PATH_BYTES_MAX];
    test_dir_make(run->dir);
    assert_ok(fs_join(run->out_path, run->dir, "stdout", &err), &err);
    assert_ok(fs_join(run->err_path, run->dir, "stderr", &err), &err);
    assert_ok(fs_join(storage, run->dir, "storage", &err), &err);
    setenv("MLX_HUB_STORAGE_BASE_PATH", storage, 1);
    setenv("MLX_HUB_PORT", "0", 1); /* no hub to be found: commands host their own */
    setenv("MLX_HUB_MLX_MEMORY_LIMIT_GB", "0.5", 1);
    setenv("MLX_HUB_THREADS", "1", 1);
    buf_init(&run->out, RUN_BYTES_MAX);
    buf_init(&run->err, RUN_BYTES_MAX);
}

static inline void run_release(struct run *run)
{
    buf_release(&run->out);
    buf_release(&run->err);
    test_dir_remove(run->dir);
}

/* Starts it with the words after the program's name; input (may be NULL) is its standard input. */
static inline pid_t run_start(struct run *run, const char *input, const char *const *words)
{
    const char *program = getenv("MLX_HUB_BINARY");
    char *argv[RUN_WORDS_MAX + 2] = {(char *)(uintptr_t) "mlx-hub"};
    posix_spawn_file_actions_t files;
    pid_t pid;
    assert_non_null(program);
    for (int i = 0; words[i] != NULL; i++) {
        assert_true(i < RUN_WORDS_MAX);
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    assert_int_equal(posix_spawn_file_actions_init(&files), 0);
    posix_spawn_file_actions_addopen(&files, 0, input != NULL ? input : "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, run->out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, run->err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(posix_spawn(&pid, program, &files, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

/* Its exit status; what it printed is read. */
static inline int run_end(struct run *run, pid_t pid)
{
    struct err err = {0};
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    buf_clear(&run->out);
    buf_clear(&run->err);
    assert_ok(fs_read_file(run->out_path, RUN_BYTES_MAX, &run->out, &err), &err);
    assert_ok(fs_read_file(run->err_path, RUN_BYTES_MAX, &run->err, &err), &err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static inline const char *run_out(const struct run *run)
{
    return run->out.data != NULL ? run->out.data : "";
}

static inline const char *run_err(const struct run *run)
{
    return run->err.data != NULL ? run->err.data : "";
}

#define run(run, ...)                                                                              \
    run_end((run), run_start((run), NULL, (const char *const[]){__VA_ARGS__, NULL}))

/* It must end so. */
#define expect(want, run_, ...)                                                                    \
    do {                                                                                           \
        const int expect_got = run((run_), __VA_ARGS__);                                           \
        if (expect_got != (want))                                                                  \
            fail_msg("%s: exit %d\n%s%s", #__VA_ARGS__, expect_got, run_out(run_), run_err(run_)); \
    } while (0)

/* Its output as JSON; the caller's. */
static inline json_t *run_json(const struct run *run)
{
    struct err err = {0};
    json_t *tree = json_parse(run_out(run), run->out.len, &err);
    if (tree == NULL)
        fail_msg("%s\n%s", err.message, run_out(run));
    return tree;
}

#endif
