/* Memory: the count, overflow, alignment, failures, arenas; and the buffer on top. */
#include "test.h"

#include "base/buf.h"

static void test_bytes_are_counted(void **state)
{
    (void)state;
    size_t before = mem_used();
    char *a = mem_alloc(100);
    char *b = mem_calloc(10, 10);
    char *c = mem_alloc_simd(25, 4);
    assert_true(mem_used() == before + 300);
    assert_true(mem_peak() >= before + 300);
    for (int i = 0; i < 100; i++)
        assert_int_equal(b[i], 0);
    a = mem_realloc(a, 1000, 2);
    assert_true(mem_used() == before + 2200);
    a = mem_realloc(a, 1, 1);
    assert_true(mem_used() == before + 201);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(NULL);
    assert_true(mem_used() == before);
}

static void test_large_pages_are_advice(void **state)
{
    (void)state;
    const size_t n = (size_t)9 << 20;
    char *block = mem_alloc_simd(1, n), *small = mem_alloc_simd(1, 64);
    assert_non_null(block);
    mem_large_pages(block);
    mem_large_pages(small);
    memset(block, 7, n);
    assert_true(block[0] == 7 && block[n / 2] == 7 && block[n - 1] == 7);
    mem_free(block);
    mem_free(small);
}

static void test_blocks_are_aligned_and_kept_when_they_move(void **state)
{
    (void)state;
    for (size_t n = 0; n < 200; n += 7) {
        char *simd = mem_alloc_simd(n, 1);
        char *plain = mem_alloc(n);
        assert_non_null(plain);
        assert_int_equal((uintptr_t)simd % MEM_SIMD_ALIGN, 0);
        assert_int_equal((uintptr_t)plain % 16, 0);
        memset(simd, 7, n);
        simd = mem_realloc(simd, n + 500, 1);
        assert_int_equal((uintptr_t)simd % MEM_SIMD_ALIGN, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(simd[i], 7);
        mem_free(simd);
        mem_free(plain);
    }
}

static void test_sizes_that_overflow(void **state)
{
    (void)state;
    size_t before = mem_used();
    char *kept = mem_alloc(8);
    /* volatile, so that the compiler does not warn of what is being tested */
    volatile size_t huge = SIZE_MAX, half = SIZE_MAX / 2 + 2;
    assert_null(mem_alloc(huge));
    assert_null(mem_calloc(half, 2));
    assert_null(mem_calloc(huge, 1));
    assert_null(mem_alloc_simd(half, 2));
    assert_null(mem_alloc_simd(huge, 1));
    assert_null(mem_realloc(kept, half, 2));
    assert_null(mem_realloc(kept, huge, 1));
    assert_null(mem_strndup("", huge));
    struct err err = {0};
    assert_err(mem_err(&err, 5), &err, ERR_NOMEM);
    mem_free(kept);
    assert_true(mem_used() == before);
}

static void test_every_allocation_can_fail(void **state)
{
    (void)state;
    char *kept = mem_strdup("kept");
    for (int which = 0; which < 7; which++) {
        void *got = NULL;
        fault_arm(FAULT_MALLOC, 1, false);
        switch (which) {
        case 0:
            got = mem_alloc(1);
            break;
        case 1:
            got = mem_calloc(1, 1);
            break;
        case 2:
            got = mem_alloc_simd(1, 1);
            break;
        case 3:
            got = mem_realloc(kept, 100, 1);
            break;
        case 4:
            got = mem_strdup("x");
            break;
        case 5:
            got = mem_printf("%d", 1);
            break;
        default:
            got = mem_realloc(NULL, 1, 1);
            break;
        }
        fault_disarm();
        assert_true(fault_fired());
        assert_null(got);
        assert_string_equal(kept, "kept");
    }
    mem_free(kept);
}

static void test_text_copies(void **state)
{
    (void)state;
    char *a = mem_strdup("abc"), *b = mem_strndup("abcdef", 2), *c = mem_printf("%s-%d", "x", 12);
    assert_string_equal(a, "abc");
    assert_string_equal(b, "ab");
    assert_string_equal(c, "x-12");
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

static void test_arena_hands_out_zeroed_memory(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct arena arena;
    arena_init(&arena, 0);
    for (int round = 0; round < 3; round++) {
        for (size_t n = 1; n < 3000; n += 97) {
            unsigned char *p = arena_alloc(&arena, n, 1);
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xAA, n);
        }
        assert_non_null(arena_alloc(&arena, 3 << 20, 1));
        assert_string_equal(arena_strdup(&arena, "text"), "text");
        assert_string_equal(arena_strndup(&arena, "text", 2), "te");
        assert_string_equal(arena_printf(&arena, "%d", 5), "5");
        arena_clear(&arena);
        assert_int_equal(arena.used, 0);
    }
    arena_release(&arena);
    arena_release(&arena);
    assert_true(mem_used() == before);
}

static void test_arena_limits(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 64);
    assert_non_null(arena_alloc(&arena, 48, 1));
    assert_null(arena_alloc(&arena, 17, 1));
    assert_non_null(arena_alloc(&arena, 16, 1));
    assert_null(arena_alloc(&arena, 0, 1)); /* a unique pointer has its price */
    assert_null(arena_alloc(&arena, SIZE_MAX, 2));
    assert_null(arena_alloc(&arena, SIZE_MAX, 1));
    assert_null(arena_strndup(&arena, "", SIZE_MAX));
    arena_release(&arena);
    arena_init(&arena, 0);
    fault_arm(FAULT_MALLOC, 1, false);
    assert_null(arena_strdup(&arena, "x"));
    fault_disarm();
    assert_non_null(arena_strdup(&arena, "x"));
    arena_release(&arena);
}

static void test_buf_builds_text(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf buf;
    buf_init(&buf, 1000);
    buf_puts(&buf, "ab");
    buf_putc(&buf, 'c');
    buf_printf(&buf, "%05d", 42);
    buf_append(&buf, NULL, 0);
    assert_string_equal(buf.data, "abc00042");
    char *to = buf_reserve(&buf, 10);
    memcpy(to, "xyz", 3);
    buf.len += 3;
    assert_ok(buf_check(&buf, "text", &err), &err);
    char *taken = buf_take(&buf);
    assert_string_equal(taken, "abc00042xyz");
    mem_free(taken);
    taken = buf_take(&buf);
    assert_string_equal(taken, "");
    mem_free(taken);
    buf_release(&buf);
}

static void test_buf_keeps_its_first_failure(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf buf;
    buf_init(&buf, 5);
    buf_puts(&buf, "12345");
    assert_ok(buf_check(&buf, "it", &err), &err);
    buf_putc(&buf, '6');
    buf_clear(&buf);
    buf_puts(&buf, "123456"); /* nothing of what does not fit goes in */
    assert_int_equal(buf.len, 0);
    buf_puts(&buf, "1");
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf_check(&buf, "it", &err), -ERR_TOO_LARGE);
    assert_string_equal(err.message, "it is larger than the 5 bytes allowed");
    err_clear(&err);
    assert_null(buf_take(&buf));
    assert_ok(buf_check(&buf, "it", &err), &err);
    fault_arm(FAULT_MALLOC, 1, false);
    buf_puts(&buf, "1");
    fault_disarm();
    assert_err(buf_check(&buf, "it", &err), &err, ERR_NOMEM);
    buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_counted),
        cmocka_unit_test(test_large_pages_are_advice),
        cmocka_unit_test(test_blocks_are_aligned_and_kept_when_they_move),
        cmocka_unit_test(test_sizes_that_overflow),
        cmocka_unit_test(test_every_allocation_can_fail),
        cmocka_unit_test(test_text_copies),
        cmocka_unit_test(test_arena_hands_out_zeroed_memory),
        cmocka_unit_test(test_arena_limits),
        cmocka_unit_test(test_buf_builds_text),
        cmocka_unit_test(test_buf_keeps_its_first_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
