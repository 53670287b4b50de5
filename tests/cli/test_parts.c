/* What commands share: sizes and times, curves, progress, and the machine's self-test. */
#include "test.h"

#include <math.h>

#include "base/hash.h"
#include "cli/plot.h"
#include "cli/print.h"
#include "cli/self_test.h"
#include "kernels/kernels.h"

static void formats_sizes_and_times(void **state)
{
    static const struct {
        double bytes;
        const char *text;
    } sizes[] = {
        {0, "0 B"}, {999, "999 B"}, {1500, "1.5 kB"}, {98.4e6, "98.4 MB"}, {2e15, "2000.0 TB"}};
    static const struct {
        double seconds;
        const char *text;
    } times[] = {{0, "0s"}, {59.4, "59s"}, {725, "12m 05s"}, {7500, "2h 05m"},
                 {-1, "-"}, {NAN, "-"},    {INFINITY, "-"}};
    char out[32];
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        format_bytes(sizes[i].bytes, out);
        assert_string_equal(out, sizes[i].text);
    }
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        format_seconds(times[i].seconds, out);
        assert_string_equal(out, times[i].text);
    }
}

/* The plot of n points as text; the caller frees it. */
static char *draw(const double *x, const double *y, size_t n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    plot(out, "loss", x, y, n);
    fclose(out);
    return text;
}

static size_t count(const char *text, char c)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += *text == c;
    }
    return n;
}

static void plots_a_curve(void **state)
{
    const double x[] = {1, 2, 3, 4};
    const double y[] = {4, 3, 2, 1};
    (void)state;
    char *text = draw(x, y, 4);
    assert_int_equal(count(text, '*'), 4);
    assert_int_equal(count(text, '\n'), PLOT_ROWS + 3);
    assert_non_null(strstr(text, "         4 |*"));
    free(text);
}

static void plots_odd_series(void **state)
{
    const double x[] = {1, 2, 3};
    const double flat[] = {5, 5, 5};
    const double holes[] = {NAN, 2, INFINITY};
    const double none[] = {NAN, NAN, NAN};
    (void)state;
    char *text = draw(x, flat, 3);
    assert_int_equal(count(text, '*'), 3);
    free(text);
    text = draw(x, holes, 3);
    assert_int_equal(count(text, '*'), 1);
    free(text);
    text = draw(x, none, 3);
    assert_non_null(strstr(text, "nothing yet"));
    free(text);
    text = draw(x, flat, 0);
    assert_non_null(strstr(text, "nothing yet"));
    free(text);
    text = draw(x, flat, 1);
    assert_int_equal(count(text, '*'), 1);
    free(text);
}

static void every_isa_gives_the_same_bits(void **state)
{
    struct err err = {0};
    char want[SHA256_HEX_BYTES];
    char got[SHA256_HEX_BYTES];
    (void)state;
    assert_ok(self_test_hash("ref", want, &err), &err);
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        assert_ok(self_test_hash(*isa, got, &err), &err);
        assert_string_equal(got, want);
    }
}

static void self_test_survives_failing_allocations(void **state)
{
    (void)state;
    bool whole = false;
    for (uint64_t n = 1; !whole; n++) {
        struct err err = {0};
        char out[SHA256_HEX_BYTES];
        fault_arm(FAULT_MALLOC, n, false);
        const int rc = self_test_hash("ref", out, &err);
        whole = !fault_fired();
        fault_disarm();
        assert_true(whole ? rc == 0 : rc == -ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_sizes_and_times),
        cmocka_unit_test(plots_a_curve),
        cmocka_unit_test(plots_odd_series),
        cmocka_unit_test(every_isa_gives_the_same_bits),
        cmocka_unit_test(self_test_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
