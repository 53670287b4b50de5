/* SHA-256, ids, secrets, table hashes, and the Philox generator with its published vectors. */
#include "test.h"

#include "base/hash.h"
#include "base/rng.h"

static const char ABC_HEX[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char EMPTY_HEX[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static void test_sha256_vectors(void **state)
{
    (void)state;
    struct err err = {0};
    char hex[SHA256_HEX_BYTES], dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    assert_ok(sha256_hex("abc", 3, hex, &err), &err);
    assert_string_equal(hex, ABC_HEX);
    assert_ok(sha256_hex("", 0, hex, &err), &err);
    assert_string_equal(hex, EMPTY_HEX);
    struct sha256 hash = {0};
    assert_ok(sha256_init(&hash, &err), &err);
    assert_ok(sha256_update(&hash, "a", 1, &err), &err);
    assert_ok(sha256_update(&hash, "bc", 2, &err), &err);
    assert_ok(sha256_final_hex(&hash, hex, &err), &err);
    assert_string_equal(hex, ABC_HEX);
    sha256_release(&hash);
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "f", &err), &err);
    assert_ok(fs_write_file(path, "abc", 3, &err), &err);
    assert_ok(sha256_file_hex(path, hex, &err), &err);
    assert_string_equal(hex, ABC_HEX);
    assert_err(sha256_file_hex(dir, hex, &err), &err, ERR_IO);
    static const enum fault_kind KINDS[] = {FAULT_MALLOC, FAULT_OPEN, FAULT_READ};
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        for (uint64_t n = 1;; n++) {
            fault_arm(KINDS[k], n, false);
            int rc = sha256_file_hex(path, hex, &err);
            fault_disarm();
            assert_true((rc != 0) == fault_fired());
            err_clear(&err);
            if (rc == 0)
                break;
        }
    }
    assert_ok(fs_remove_file(path, &err), &err);
    assert_err(sha256_file_hex(path, hex, &err), &err, ERR_NOT_FOUND);
    test_dir_remove(dir);
}

static void test_uuids(void **state)
{
    (void)state;
    struct err err = {0};
    char a[UUID_BYTES], b[UUID_BYTES];
    assert_ok(uuid_make(a, &err), &err);
    assert_ok(uuid_make(b, &err), &err);
    assert_string_not_equal(a, b);
    assert_true(uuid_valid(a));
    assert_int_equal(a[14], '4');
    assert_non_null(strchr("89ab", a[19]));
    static const char *const BAD[] = {"",
                                      "x",
                                      "123e4567-e89b-12d3-a456-42661417400",
                                      "123e4567-e89b-12d3-a456-4266141740000",
                                      "123e4567e89b-12d3-a456-4266141740000",
                                      "g23e4567-e89b-12d3-a456-426614174000"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        assert_false(uuid_valid(BAD[i]));
    assert_true(uuid_valid("123E4567-e89b-12d3-a456-426614174000"));
}

static void test_secrets_compare(void **state)
{
    (void)state;
    assert_true(secret_equal("key", "key"));
    assert_true(secret_equal("", ""));
    assert_false(secret_equal("key", "kez"));
    assert_false(secret_equal("key", "keykey"));
    assert_false(secret_equal("keykey", "key"));
    assert_false(secret_equal("", "key"));
    assert_false(secret_equal("key", ""));
}

static void test_hash_bytes_differs_where_it_should(void **state)
{
    (void)state;
    char text[64] = {0};
    uint64_t seen[64];
    for (size_t n = 0; n < 64; n++) {
        seen[n] = hash_bytes(text, n, 1);
        assert_true(hash_bytes(text, n, 1) == seen[n]);
        assert_true(hash_bytes(text, n, 2) != seen[n]);
        for (size_t k = 0; k < n; k++)
            assert_true(seen[k] != seen[n]);
    }
    for (int i = 0; i < 40; i++) {
        text[i] = 1;
        assert_true(hash_bytes(text, 40, 1) != seen[40]);
        text[i] = 0;
    }
}

/* From the known-answer file of the authors' Random123 library. */
static void test_philox_vectors(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } ROWS[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        uint32_t out[4];
        memcpy(out, ROWS[i].counter, sizeof out);
        rng_philox(out, ROWS[i].key, out);
        assert_memory_equal(out, ROWS[i].want, sizeof out);
    }
}

static void test_draws(void **state)
{
    (void)state;
    uint32_t a[4], b[4];
    rng_draw4(7, RNG_SAMPLE, 1, 2, a);
    rng_draw4(7, RNG_INIT, 1, 2, b);
    assert_memory_not_equal(a, b, sizeof a);
    rng_draw4(7, RNG_SAMPLE, 1, 2, b);
    assert_memory_equal(a, b, sizeof a);
    double sum = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        float u = rng_uniform(3, RNG_DROPOUT, i, 0);
        assert_true(u >= 0 && u < 1);
        assert_true(u * 0x1p24f == (float)(uint32_t)(u * 0x1p24f));
        sum += (double)u;
    }
    assert_true(sum > 4900 && sum < 5100);
    unsigned char bytes[1000] = {0};
    assert_int_equal(rng_os_bytes(bytes, sizeof bytes), 0);
    int zeros = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        zeros += bytes[i] == 0;
    assert_true(zeros < 50);
}

static void test_shuffle_is_a_permutation(void **state)
{
    (void)state;
    enum { N = 1000 };
    static uint32_t first[N], again[N], other[N];
    static int count[N];
    for (uint32_t i = 0; i < N; i++)
        first[i] = again[i] = other[i] = i;
    rng_shuffle(42, 0, first, N);
    rng_shuffle(42, 0, again, N);
    rng_shuffle(42, 1, other, N);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    for (int i = 0; i < N; i++)
        count[first[i]]++;
    for (int i = 0; i < N; i++)
        assert_int_equal(count[i], 1);
    rng_shuffle(42, 0, first, 0);
    uint32_t one = 9;
    rng_shuffle(42, 0, &one, 1);
    assert_int_equal(one, 9);
}

/* The order that training promises to repeat: it may never change. */
static void test_shuffle_is_pinned(void **state)
{
    (void)state;
    uint32_t order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    static const uint32_t WANT[8] = {3, 0, 6, 7, 1, 4, 2, 5};
    rng_shuffle(42, 3, order, 8);
    for (int i = 0; i < 8; i++)
        if (order[i] != WANT[i])
            fail_msg("{%u, %u, %u, %u, %u, %u, %u, %u}", order[0], order[1], order[2], order[3],
                     order[4], order[5], order[6], order[7]);
}

static void test_git_names(void **state)
{
    (void)state;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX], name[GIT_HEX_BYTES];
    struct err err = {0};
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "f", &err), &err);
    assert_ok(fs_write_file(path, "hello\n", 6, &err), &err);
    assert_ok(git_blob_hex(path, name, &err), &err);
    assert_string_equal(name, "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_ok(fs_write_file(path, "", 0, &err), &err);
    assert_ok(git_blob_hex(path, name, &err), &err);
    assert_string_equal(name, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    assert_ok(fs_remove_file(path, &err), &err);
    assert_err(git_blob_hex(path, name, &err), &err, ERR_NOT_FOUND);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_vectors),
        cmocka_unit_test(test_uuids),
        cmocka_unit_test(test_secrets_compare),
        cmocka_unit_test(test_hash_bytes_differs_where_it_should),
        cmocka_unit_test(test_philox_vectors),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_shuffle_is_a_permutation),
        cmocka_unit_test(test_shuffle_is_pinned),
        cmocka_unit_test(test_git_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
