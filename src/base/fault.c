/* How it works. One fault can be armed at a time. `armed` is the only thing looked at while no
 * fault is armed, so the hook costs one relaxed load in production.
 *
 * 1. While armed, every call of every kind is counted; arming starts the counts at zero.
 * 2. The plan (kind, nth, …) is written before `armed` is set with release and read after it was
 *    seen set with acquire, so a hit never mixes two plans of a test that re-arms while idle.
 */
#include "base/fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_LIKE_SIGKILL = 137, SPEC_BYTES_MAX = 64 };

static const char *const KIND_NAMES[FAULT_KIND_COUNT] = {
    [FAULT_MALLOC] = "malloc", [FAULT_OPEN] = "open",   [FAULT_READ] = "read",
    [FAULT_WRITE] = "write",   [FAULT_FSYNC] = "fsync", [FAULT_RENAME] = "rename",
    [FAULT_MKDIR] = "mkdir",   [FAULT_MMAP] = "mmap",   [FAULT_SPAWN] = "spawn",
};

static atomic_bool armed;
static atomic_bool fired;
static atomic_bool all_after;
static atomic_bool crash;
static _Atomic(int) planned_kind;
static _Atomic(uint64_t) planned_nth;
static _Atomic(uint64_t) seen[FAULT_KIND_COUNT];

static void arm(enum fault_kind kind, uint64_t nth, bool after, bool die)
{
    atomic_store(&armed, false);
    for (int i = 0; i < FAULT_KIND_COUNT; i++)
        atomic_store(&seen[i], 0);
    atomic_store(&fired, false);
    atomic_store(&all_after, after);
    atomic_store(&crash, die);
    atomic_store(&planned_kind, (int)kind);
    atomic_store(&planned_nth, nth);
    atomic_store_explicit(&armed, true, memory_order_release);
}

bool fault_hit(enum fault_kind kind)
{
    if (!atomic_load_explicit(&armed, memory_order_relaxed))
        return false;
    atomic_thread_fence(memory_order_acquire);
    uint64_t count = atomic_fetch_add(&seen[kind], 1) + 1;
    if (atomic_load(&planned_kind) != (int)kind)
        return false;
    uint64_t nth = atomic_load(&planned_nth);
    if (count != nth && !(atomic_load(&all_after) && count > nth))
        return false;
    atomic_store(&fired, true);
    if (atomic_load(&crash))
        _exit(EXIT_LIKE_SIGKILL);
    return true;
}

void fault_arm(enum fault_kind kind, uint64_t nth, bool after)
{
    arm(kind, nth, after, false);
}

void fault_disarm(void)
{
    atomic_store(&armed, false);
}

uint64_t fault_seen(enum fault_kind kind)
{
    return atomic_load(&seen[kind]);
}

bool fault_fired(void)
{
    return atomic_load(&fired);
}

/* "kind:N", "kind:N+" or "crash-kind:N". */
int fault_from_env(struct err *err)
{
    const char *spec = getenv("MLX_HUB_FAULT");
    if (!spec || !*spec)
        return 0;
    const char *name = spec;
    static const char CRASH[] = "crash-";
    bool die = strncmp(name, CRASH, sizeof CRASH - 1) == 0;
    if (die)
        name += sizeof CRASH - 1;
    const char *colon = strchr(name, ':');
    if (!colon || strlen(spec) > SPEC_BYTES_MAX)
        goto bad;
    for (int kind = 0; kind < FAULT_KIND_COUNT; kind++) {
        size_t length = strlen(KIND_NAMES[kind]);
        if (length != (size_t)(colon - name) || strncmp(name, KIND_NAMES[kind], length) != 0)
            continue;
        char *end = NULL;
        errno = 0;
        unsigned long long nth = strtoull(colon + 1, &end, 10);
        bool after = *end == '+';
        if (colon[1] < '0' || colon[1] > '9' || errno || nth == 0 || end[after] != '\0')
            goto bad;
        arm((enum fault_kind)kind, nth, after, die);
        return 0;
    }
bad:
    return err_set(err, ERR_INVALID,
                   "MLX_HUB_FAULT is \"%.64s\"; allowed: [crash-]KIND:N or KIND:N+ with KIND one "
                   "of malloc, open, read, write, fsync, rename, mkdir, mmap, spawn",
                   spec);
}
