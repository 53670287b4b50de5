/* What every test file includes: cmocka with its needed headers, and a folder of its own. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"

/* A call that must succeed; shows the message when it does not. */
#define assert_ok(call, err)                                                                       \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, (err)->message);                                             \
    } while (0)

/* A call that must fail with `want`; the error is cleared after. */
#define assert_err(call, err, want)                                                                \
    do {                                                                                           \
        int assert_rc = (call);                                                                    \
        if (assert_rc != -(int)(want) || (err)->code != (want))                                    \
            fail_msg("%s: got %d \"%s\"", #call, assert_rc, (err)->message);                       \
        err_clear(err);                                                                            \
    } while (0)

/* A new folder under TMPDIR or /tmp; remove it with test_dir_remove. */
static inline char *test_dir_make(char out[FS_PATH_BYTES_MAX])
{
    const char *base = getenv("TMPDIR");
    snprintf(out, FS_PATH_BYTES_MAX, "%s/mlx-hub-test-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(out));
    return out;
}

static inline void test_dir_remove(const char *dir)
{
    struct err err = {0};
    assert_ok(fs_remove_tree(dir, &err), &err);
}

#endif
