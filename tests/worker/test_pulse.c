/* What counts as a sign of life of a job, and that a heart beats while its job does not poll. */
#include "base/clock.h"
#include "test.h"
#include "worker/pulse.h"

#define SECOND 1000000000LL

enum { BEATS = 3 };

static void signs_of_life(void **state)
{
    static const struct {
        const char *what;
        int64_t now_s, cpu_ms;
        uint64_t polls;
        bool lives;
    } looks[] = {
        {"the first look", 1, 5, 0, true},
        {"it polled and used nothing", 11, 5, 1, true},
        {"it computes", 21, 8005, 1, true},
        {"it computes a little", 31, 8105, 1, true},
        {"it hangs", 41, 8105, 1, false},
        {"it hangs, a thread looks at a clock", 51, 8155, 1, false},
        {"it woke up", 61, 8155, 2, true},
        {"an hour of computing without a poll", 61 + 3599, 3000000, 2, true},
        {"is believed no longer", 61 + 3600, 3001000, 2, false},
        {"until it polls", 61 + 3610, 3001000, 3, true},
    };
    struct pulse_signs last = {0};

    (void)state;
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
        const bool lives = pulse_lives(&last, looks[i].now_s * SECOND,
                                       looks[i].cpu_ms * SECOND / 1000, looks[i].polls);

        if (lives != looks[i].lives)
            fail_msg("%s: %d", looks[i].what, lives);
    }
}

static void count(void *ctx)
{
    atomic_fetch_add((atomic_int *)ctx, 1);
}

/* A step that takes long: nothing is polled, the processor is busy. */
static void it_beats_through_a_long_step(void **state)
{
    static atomic_int beats;
    struct pulse pulse;
    struct err err = {0};
    const int64_t until = clock_monotonic_ns() + 20 * SECOND;

    (void)state;
    assert_ok(pulse_start(&pulse, count, &beats, 20, &err), &err);
    while (atomic_load(&beats) < BEATS && clock_monotonic_ns() < until) {
    }
    pulse_stop(&pulse);
    assert_true(atomic_load(&beats) >= BEATS);
    pulse_stop(&pulse);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_of_life),
        cmocka_unit_test(it_beats_through_a_long_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
