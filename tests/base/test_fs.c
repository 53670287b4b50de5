/* Files: publishing is all or nothing under every fault, trees and links, paths, maps, the lock. */
#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>

static char dir[FS_PATH_BYTES_MAX];

static const char *at(const char *name)
{
    static char paths[8][FS_PATH_BYTES_MAX];
    static int next;
    struct err err = {0};
    char *path = paths[next++ % 8];
    assert_ok(fs_join(path, dir, name, &err), &err);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static void put(const char *name, const char *text)
{
    struct err err = {0};
    assert_ok(fs_write_file(at(name), text, strlen(text), &err), &err);
}

static void expect(const char *name, const char *text)
{
    struct err err = {0};
    struct buf buf;
    buf_init(&buf, 1 << 20);
    assert_ok(fs_read_file(at(name), 1 << 20, &buf, &err), &err);
    assert_string_equal(buf.data, text);
    buf_release(&buf);
}

static int count_entry(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)ctx;
    return 0;
}

static int entries(const char *name)
{
    struct err err = {0};
    int n = 0;
    assert_ok(fs_list_dir(at(name), count_entry, &n, &err), &err);
    return n;
}

static void test_read_limits(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf buf;
    put("f", "12345");
    put("empty", "");
    buf_init(&buf, 100);
    assert_ok(fs_read_file(at("f"), 5, &buf, &err), &err);
    assert_int_equal(buf.len, 5);
    assert_err(fs_read_file(at("f"), 4, &buf, &err), &err, ERR_TOO_LARGE);
    buf_clear(&buf);
    assert_ok(fs_read_file(at("empty"), 5, &buf, &err), &err);
    assert_string_equal(buf.data, "");
    assert_err(fs_read_file(at("none"), 5, &buf, &err), &err, ERR_NOT_FOUND);
    assert_err(fs_read_file(dir, 5, &buf, &err), &err, ERR_INVALID);
#ifdef __linux__
    /* no end and no size: the ceiling is what stops it */
    assert_err(fs_read_file("/dev/zero", 50, &buf, &err), &err, ERR_TOO_LARGE);
#endif
    buf_release(&buf);
    buf_init(&buf, 3);
    assert_err(fs_read_file(at("f"), 100, &buf, &err), &err, ERR_TOO_LARGE);
    buf_release(&buf);
}

/* After a write in which something failed the file is as before or as after, never between, and no
 * temporary file is left. */
static void test_write_is_all_or_nothing_under_faults(void **state)
{
    (void)state;
    static const enum fault_kind KINDS[] = {FAULT_MALLOC, FAULT_OPEN,  FAULT_READ,
                                            FAULT_WRITE,  FAULT_FSYNC, FAULT_RENAME};
    put("source", "new content");
    for (int copying = 0; copying < 2; copying++) {
        for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
            for (uint64_t n = 1;; n++) {
                struct err err = {0};
                struct buf buf;
                put("target", "old");
                const char *from = at("source"), *to = at("target");
                fault_arm(KINDS[k], n, false);
                int rc = copying ? fs_copy_file(from, to, &err)
                                 : fs_write_file(to, "new content", 11, &err);
                fault_disarm();
                bool fired = fault_fired();
                assert_true(fired == (rc != 0));
                if (fired && (KINDS[k] == FAULT_WRITE || KINDS[k] == FAULT_FSYNC))
                    assert_int_equal(err.code, ERR_NOSPACE);
                buf_init(&buf, 100);
                err_clear(&err);
                assert_ok(fs_read_file(to, 100, &buf, &err), &err);
                bool old = strcmp(buf.data, "old") == 0;
                assert_true(old || strcmp(buf.data, "new content") == 0);
                assert_true(rc != 0 || !old);
                buf_release(&buf);
                assert_int_equal(entries("."), 2);
                if (!fired)
                    break;
            }
        }
    }
}

static void test_writer_abandon_leaves_nothing(void **state)
{
    (void)state;
    struct err err = {0};
    struct fs_writer writer = {0};
    fs_writer_abandon(&writer);
    assert_ok(fs_writer_open(&writer, at("f"), &err), &err);
    assert_ok(fs_writer_write(&writer, "abc", 3, &err), &err);
    assert_int_equal(writer.written, 3);
    assert_int_equal(entries("."), 1);
    fs_writer_abandon(&writer);
    fs_writer_abandon(&writer);
    assert_int_equal(entries("."), 0);
    assert_err(fs_write_file(at("no/f"), "", 0, &err), &err, ERR_NOT_FOUND);
}

static void test_mkdirs(void **state)
{
    (void)state;
    struct err err = {0};
    assert_ok(fs_mkdirs(at("a/b//c/"), &err), &err);
    assert_true(fs_is_dir(at("a/b/c")));
    assert_ok(fs_mkdirs(at("a/b/c"), &err), &err);
    put("file", "");
    assert_err(fs_mkdirs(at("file"), &err), &err, ERR_CONFLICT);
    assert_err(fs_mkdirs(at("file/x"), &err), &err, ERR_CONFLICT);
    assert_err(fs_mkdirs("", &err), &err, ERR_INVALID);
    const char *path = at("p/q");
    fault_arm(FAULT_MKDIR, 2, false);
    int rc = fs_mkdirs(path, &err);
    fault_disarm();
    assert_int_equal(rc, -ERR_NOSPACE);
}

static void test_publish_dir(void **state)
{
    (void)state;
    struct err err = {0};
    assert_ok(fs_mkdirs(at("temp"), &err), &err);
    put("temp/f", "x");
    assert_ok(fs_publish_dir(at("temp"), at("final"), &err), &err);
    expect("final/f", "x");
    assert_false(fs_exists(at("temp")));
    assert_ok(fs_mkdirs(at("temp"), &err), &err);
    assert_err(fs_publish_dir(at("temp"), at("final"), &err), &err, ERR_CONFLICT);
    assert_ok(fs_mkdirs(at("empty"), &err), &err);
    assert_err(fs_publish_dir(at("temp"), at("empty"), &err), &err, ERR_CONFLICT);
    const char *from = at("temp"), *to = at("other");
    fault_arm(FAULT_RENAME, 1, false);
    int rc = fs_publish_dir(from, to, &err);
    fault_disarm();
    assert_int_equal(rc, -ERR_NOSPACE);
    assert_true(fs_is_dir(from));
    assert_false(fs_exists(to));
}

static void test_remove_tree_follows_no_link(void **state)
{
    (void)state;
    struct err err = {0};
    assert_ok(fs_mkdirs(at("tree/a/b"), &err), &err);
    assert_ok(fs_mkdirs(at("outside"), &err), &err);
    put("outside/keep", "x");
    put("tree/a/b/f", "x");
    assert_int_equal(symlink(at("outside"), at("tree/a/link")), 0);
    assert_int_equal(symlink("nowhere", at("tree/dangling")), 0);
    assert_int_equal(symlink(at("outside"), at("direct")), 0);
    assert_ok(fs_remove_tree(at("tree"), &err), &err);
    assert_false(fs_exists(at("tree")));
    assert_ok(fs_remove_tree(at("direct/"), &err), &err);
    expect("outside/keep", "x");
    assert_ok(fs_remove_tree(at("tree"), &err), &err); /* missing is fine */
    assert_ok(fs_remove_tree(at("outside/keep"), &err), &err);
    assert_ok(fs_remove_file(at("missing"), &err), &err);
    assert_err(fs_remove_tree("", &err), &err, ERR_INVALID);
}

/* More entries than one reading of the folder returns. */
static void test_remove_tree_takes_a_large_folder(void **state)
{
    (void)state;
    struct err err = {0};
    assert_ok(fs_mkdirs(at("large"), &err), &err);
    for (int i = 0; i < 5000; i++) {
        char name[64];
        snprintf(name, sizeof name, "large/a-file-of-many-%d", i);
        const int fd = open(at(name), O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
    assert_ok(fs_remove_tree(at("large"), &err), &err);
    assert_false(fs_exists(at("large")));
}

struct names {
    char text[256];
    int stop_at;
};

static int note_name(void *ctx, const char *name, bool is_dir)
{
    struct names *names = ctx;
    const size_t used = strlen(names->text);
    snprintf(names->text + used, sizeof names->text - used, "%s%s", name, is_dir ? "/ " : " ");
    return --names->stop_at == 0 ? -77 : 0;
}

static void test_list_is_sorted_and_stops(void **state)
{
    (void)state;
    struct err err = {0};
    struct names names = {0};
    put("b", "");
    put("a", "");
    put(".hidden", "");
    assert_ok(fs_mkdirs(at("Z"), &err), &err);
    assert_int_equal(symlink(at("Z"), at("link")), 0);
    assert_ok(fs_list_dir(dir, note_name, &names, &err), &err);
    assert_string_equal(names.text, ".hidden Z/ a b link/ ");
    names = (struct names){.stop_at = 2};
    assert_int_equal(fs_list_dir(dir, note_name, &names, &err), -77);
    assert_string_equal(names.text, ".hidden Z/ ");
    assert_err(fs_list_dir(at("none"), note_name, &names, &err), &err, ERR_NOT_FOUND);
    size_t before = mem_used();
    for (uint64_t n = 1;; n++) {
        int count = 0;
        fault_arm(FAULT_MALLOC, n, false);
        int rc = fs_list_dir(dir, count_entry, &count, &err);
        fault_disarm();
        assert_true(mem_used() == before);
        assert_true(fault_fired() == (rc == -ERR_NOMEM));
        err_clear(&err);
        if (rc == 0)
            break;
    }
}

static void test_join_and_absolute(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *name, *want;
    } JOINS[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "/b", "a/b"},
                 {"/", "b", "/b"},  {"", "b", "b"},     {"a", "", "a/"}};
    struct err err = {0};
    char out[FS_PATH_BYTES_MAX], cwd[FS_PATH_BYTES_MAX], want[2 * FS_PATH_BYTES_MAX];
    for (size_t i = 0; i < sizeof JOINS / sizeof *JOINS; i++) {
        assert_ok(fs_join(out, JOINS[i].dir, JOINS[i].name, &err), &err);
        assert_string_equal(out, JOINS[i].want);
    }
    assert_ok(fs_absolute(out, "/a//./b/../c/", &err), &err);
    assert_string_equal(out, "/a/b/../c");
    assert_ok(fs_absolute(out, "/", &err), &err);
    assert_string_equal(out, "/");
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(want, sizeof want, "%s/x", cwd);
    assert_ok(fs_absolute(out, "./x", &err), &err);
    assert_string_equal(out, want);
    assert_ok(fs_absolute(out, ".", &err), &err);
    assert_string_equal(out, cwd);
    char longest[FS_PATH_BYTES_MAX + 10];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_err(fs_join(out, longest, "b", &err), &err, ERR_INVALID);
    assert_err(fs_join(out, "b", longest, &err), &err, ERR_INVALID);
    longest[0] = '/';
    assert_err(fs_absolute(out, longest, &err), &err, ERR_INVALID);
    assert_err(fs_absolute(out, "", &err), &err, ERR_INVALID);
    struct fs_writer writer;
    assert_err(fs_writer_open(&writer, longest, &err), &err, ERR_INVALID);
}

static void test_resolve_within(void **state)
{
    (void)state;
    struct err err = {0};
    char out[FS_PATH_BYTES_MAX];
    assert_ok(fs_mkdirs(at("in/sub"), &err), &err);
    assert_ok(fs_mkdirs(at("in2"), &err), &err);
    put("in/sub/f", "");
    put("in2/f", "");
    assert_int_equal(symlink("../in2/f", at("in/out")), 0);
    assert_int_equal(symlink("sub/f", at("in/inner")), 0);
    char in[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(in, dir, "in", &err), &err);
    assert_ok(fs_resolve_within(out, in, "sub/f", &err), &err);
    assert_ok(fs_resolve_within(out, in, "sub/../sub/f", &err), &err);
    assert_ok(fs_resolve_within(out, in, "inner", &err), &err);
    assert_ok(fs_resolve_within(out, in, at("in/sub"), &err), &err);
    assert_ok(fs_resolve_within(out, in, ".", &err), &err);
    assert_ok(fs_resolve_within(out, "/", "etc", &err), &err);
    assert_err(fs_resolve_within(out, in, "..", &err), &err, ERR_FORBIDDEN);
    assert_err(fs_resolve_within(out, in, "../in2/f", &err), &err, ERR_FORBIDDEN);
    assert_err(fs_resolve_within(out, in, "out", &err), &err, ERR_FORBIDDEN);
    assert_err(fs_resolve_within(out, in, "/etc", &err), &err, ERR_FORBIDDEN);
    assert_err(fs_resolve_within(out, in, "none", &err), &err, ERR_NOT_FOUND);
    assert_err(fs_resolve_within(out, in, "sub/f/x", &err), &err, ERR_NOT_FOUND);
}

static void test_facts(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t bytes = 0;
    put("f", "12345");
    assert_ok(fs_size(at("f"), &bytes, &err), &err);
    assert_int_equal(bytes, 5);
    assert_err(fs_size(dir, &bytes, &err), &err, ERR_INVALID);
    assert_err(fs_size(at("none"), &bytes, &err), &err, ERR_NOT_FOUND);
    assert_ok(fs_free_space(dir, &bytes, &err), &err);
    assert_true(bytes > 0);
    assert_err(fs_free_space(at("none"), &bytes, &err), &err, ERR_NOT_FOUND);
    assert_true(fs_exists(at("f")));
    assert_false(fs_is_dir(at("f")));
}

static void test_maps(void **state)
{
    (void)state;
    struct err err = {0};
    struct fs_map map = {0};
    fs_map_close(&map);
    put("f", "12345");
    put("empty", "");
    assert_ok(fs_map_open(&map, at("f"), &err), &err);
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "12345", 5);
    fs_map_close(&map);
    assert_ok(fs_map_open(&map, at("empty"), &err), &err);
    assert_null(map.data);
    fs_map_close(&map);
    assert_err(fs_map_open(&map, dir, &err), &err, ERR_INVALID);
    assert_err(fs_map_open(&map, at("none"), &err), &err, ERR_NOT_FOUND);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    assert_err(fs_map_open(&map, at("fifo"), &err), &err, ERR_INVALID);
    const char *path = at("f");
    fault_arm(FAULT_MMAP, 1, false);
    int rc = fs_map_open(&map, path, &err);
    fault_disarm();
    assert_int_equal(rc, -ERR_NOMEM);
    assert_null(map.data);
}

static void test_lock_names_its_holder(void **state)
{
    (void)state;
    struct err err = {0};
    int first = -1, second = -1;
    char want[FS_PATH_BYTES_MAX + 64];
    assert_ok(fs_lock_dir(dir, "mlx-hub serve", &first, &err), &err);
    assert_int_equal(fs_lock_dir(dir, "another", &second, &err), -ERR_CONFLICT);
    snprintf(want, sizeof want, "%s is in use by mlx-hub serve (pid %ld)", dir, (long)getpid());
    assert_string_equal(err.message, want);
    assert_int_equal(second, -1);
    err_clear(&err);
    fs_unlock_dir(second);
    fs_unlock_dir(first);
    assert_ok(fs_lock_dir(dir, "another", &second, &err), &err);
    fs_unlock_dir(second);
    assert_err(fs_lock_dir(at("none"), "x", &second, &err), &err, ERR_NOT_FOUND);
    static const enum fault_kind KINDS[] = {FAULT_OPEN, FAULT_WRITE};
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        fault_arm(KINDS[k], 1, false);
        assert_true(fs_lock_dir(dir, "x", &second, &err) != 0);
        fault_disarm();
        err_clear(&err);
        assert_ok(fs_lock_dir(dir, "x", &second, &err), &err); /* the failed try left no lock */
        fs_unlock_dir(second);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_read_limits),
        CASE(test_write_is_all_or_nothing_under_faults),
        CASE(test_writer_abandon_leaves_nothing),
        CASE(test_mkdirs),
        CASE(test_publish_dir),
        CASE(test_remove_tree_follows_no_link),
        CASE(test_remove_tree_takes_a_large_folder),
        CASE(test_list_is_sorted_and_stops),
        CASE(test_join_and_absolute),
        CASE(test_resolve_within),
        CASE(test_facts),
        CASE(test_maps),
        CASE(test_lock_names_its_holder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
