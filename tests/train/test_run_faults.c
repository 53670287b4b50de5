/* Every call that can fail, failed in turn: a run whose nth write, rename, fsync, mkdir, open, read
 * or allocation fails leaves nothing half-written, and running it again gives the bytes of an
 * undisturbed run. */
#include "formats/checksums.h"
#include "train/run_fixture.h"

#define FAULT_CONFIG                                                                               \
    "{\"lora_rank\":2,\"max_steps\":3,\"checkpoint_every\":2,\"checkpoints_kept\":1,"              \
    "\"batch_size\":4,\"eval_every\":2,\"early_stopping_patience\":9,\"max_seq_length\":64}"

static char want[SHA256_HEX_BYTES];

static int setup(void **state)
{
    (void)state;
    fixture_in_memory();
    fixture_checksum(FAULT_CONFIG, want);
    return 0;
}

static int only_the_version(void *ctx, const char *name, bool is_dir)
{
    (void)ctx;
    (void)is_dir;
    return strcmp(name, "1.0.0") != 0;
}

/* One run with its nth call failing, and one after it without. True when the fault was met. */
static bool fail_once(enum fault_kind kind, uint64_t nth)
{
    struct run_fixture f;
    struct err err = {0};
    char versions[FS_PATH_BYTES_MAX];
    fixture_new(&f, FAULT_CONFIG);
    const size_t before = mem_used();
    fault_arm(kind, nth, false);
    const int rc = train_run(&f.spec, &f.hooks, &f.result, &err);
    fault_disarm();
    const bool fired = fault_fired();
    assert_int_equal(mem_used(), before);
    assert_true(rc == 0 || fired);
    assert_true(rc == 0 || err.message[0] != '\0');
    err_clear(&err);
    if (fs_exists(f.output)) {
        assert_ok(checksums_verify(f.output, &err), &err);
    }
    fixture_run(&f);
    if (strcmp(f.result.checksum, want) != 0) {
        fail_msg("fault kind %d, call %llu: other bytes", (int)kind, (unsigned long long)nth);
    }
    assert_ok(checksums_verify(f.output, &err), &err);
    assert_ok(fs_join(versions, f.dir, "versions", &err), &err);
    assert_ok(fs_list_dir(versions, only_the_version, NULL, &err), &err);
    fixture_free(&f);
    return fired;
}

static void fail_each(enum fault_kind kind, uint64_t calls_min)
{
    uint64_t n = 1;
    while (fail_once(kind, n)) {
        n++;
    }
    assert_true(n > calls_min);
}

static void test_writes(void **state)
{
    (void)state;
    fail_each(FAULT_WRITE, 20);
}
static void test_renames(void **state)
{
    (void)state;
    fail_each(FAULT_RENAME, 10);
}
static void test_fsyncs(void **state)
{
    (void)state;
    fail_each(FAULT_FSYNC, 20);
}
static void test_mkdirs(void **state)
{
    (void)state;
    fail_each(FAULT_MKDIR, 3);
}
static void test_opens(void **state)
{
    (void)state;
    fail_each(FAULT_OPEN, 20);
}

static void test_reads_and_maps(void **state)
{
    (void)state;
    fail_each(FAULT_READ, 3);
    fail_each(FAULT_MMAP, 2);
}

/* A run makes thousands of allocations, most of them while it reads JSON; the stride keeps to the
 * first hundred one by one and then spreads over the rest. */
static void test_allocations(void **state)
{
    (void)state;
    for (uint64_t n = 1; fail_once(FAULT_MALLOC, n); n += 1 + n / 24) {
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes),      cmocka_unit_test(test_renames),
        cmocka_unit_test(test_fsyncs),      cmocka_unit_test(test_mkdirs),
        cmocka_unit_test(test_opens),       cmocka_unit_test(test_reads_and_maps),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
