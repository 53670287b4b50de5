/* Death at any instant: a child that trains is killed with SIGKILL again and again; what it leaves
 * must be resumable to the very bytes of an undisturbed run.
 *
 * usage: train_test_run_kill            the tests
 *        train_test_run_kill run DIR    the child: trains in DIR */
#include <signal.h>

#include "base/clock.h"
#include "base/proc.h"
#include "base/rng.h"
#include "formats/checksums.h"
#include "train/run_fixture.h"

#define KILL_CONFIG FIXTURE_CONFIG(",\"checkpoint_every\":1,\"eval_every\":3")

enum { KILLS = 50, WAIT_MS = 120000 };

static void start(struct proc *proc, const char *dir)
{
    struct err err = {0};
    const char *const argv[] = {"train_test_run_kill", "run", dir, NULL};
    const struct proc_options options = {.argv = argv};
    assert_ok(proc_spawn(proc, &options, &err), &err);
}

static int only_the_version(void *ctx, const char *name, bool is_dir)
{
    (void)ctx;
    (void)is_dir;
    return strcmp(name, "1.0.0") != 0;
}

static void test_killed_at_random_instants(void **state)
{
    char want[SHA256_HEX_BYTES], versions[FS_PATH_BYTES_MAX];
    struct run_fixture f;
    struct proc proc = {0};
    struct proc_exit how;
    struct err err = {0};
    (void)state;
    fixture_in_memory();
    fixture_checksum(KILL_CONFIG, want);

    /* How long an undisturbed child takes sets the scale of the random instants. */
    fixture_new(&f, KILL_CONFIG);
    const int64_t started = clock_monotonic_ns();
    start(&proc, f.dir);
    assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
    proc_release(&proc);
    assert_false(how.signalled);
    assert_int_equal(how.value, 0);
    const double whole_ms = (double)(clock_monotonic_ns() - started) / 1e6;
    fixture_free(&f);

    fixture_new(&f, KILL_CONFIG);
    for (int i = 0, kills = 0; kills < KILLS; i++) {
        start(&proc, f.dir);
        const float when = rng_uniform(11, RNG_SAMPLE, 0, (uint64_t)i);
        if (proc_wait(&proc, (int)((double)when * whole_ms), &how, NULL) != 0) {
            proc_kill(&proc, SIGKILL);
            assert_ok(proc_wait(&proc, WAIT_MS, &how, &err), &err);
        }
        proc_release(&proc);
        kills += how.signalled;
        if (fs_exists(f.output) && kills < KILLS) { /* the rest of the kills hit a new run */
            assert_ok(checksums_verify(f.output, &err), &err);
            fixture_run(&f);
            assert_string_equal(f.result.checksum, want);
            fixture_free(&f);
            fixture_new(&f, KILL_CONFIG);
        }
    }
    fixture_run(&f);
    assert_string_equal(f.result.checksum, want);
    assert_ok(checksums_verify(f.output, &err), &err);
    assert_ok(fs_join(versions, f.dir, "versions", &err), &err);
    assert_ok(fs_list_dir(versions, only_the_version, NULL, &err), &err);
    fixture_free(&f);
}

static int train_in(const char *dir)
{
    struct run_fixture f;
    struct err err = {0};
    if (proc_child_init(PROC_CONTROL_FD, &err) != 0) {
        return 2;
    }
    fixture_in(&f, dir, KILL_CONFIG);
    return train_run(&f.spec, NULL, &f.result, &err) != 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_random_instants),
    };
    if (argc == 3 && strcmp(argv[1], "run") == 0) {
        return train_in(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
