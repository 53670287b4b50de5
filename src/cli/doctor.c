/* mlx-hub doctor: does this machine have what the hub needs, and does it compute what it should?
 *
 * Each check gives a row: ok, a warning (it works, but), or failed with what to do. Nothing is
 * changed; a storage folder that is not there yet is not made. */
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/machine.h"
#include "cli/commands.h"
#include "cli/database.h"
#include "cli/print.h"
#include "cli/remote.h"
#include "cli/self_test.h"
#include "kernels/kernels.h"

enum { CHECKS_MAX = 16, DETAIL_BYTES = 1200, TALLY_DEPTH_MAX = 8 };
#define FREE_BYTES_WANTED 2e9

enum verdict { OK, WARNING, FAILED };
static const char *const verdict_names[] = {"ok", "warning", "failed"};

struct check {
    const char *name;
    enum verdict verdict;
    char detail[DETAIL_BYTES];
};

struct report {
    struct check checks[CHECKS_MAX];
    int n;
};

static void add(struct report *r, const char *name, enum verdict verdict, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

static void add(struct report *r, const char *name, enum verdict verdict, const char *fmt, ...)
{
    va_list args;
    struct check *c = &r->checks[r->n++];
    c->name = name;
    c->verdict = verdict;
    va_start(args, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, args);
    va_end(args);
}

/* --- machine ------------------------------------------------------------------------------------
 */

static void check_machine(struct report *r)
{
    char ram[32];
    const char *const *isas = kernels_available();
    char list[128] = "";
    size_t n = 0;
    format_bytes((double)machine_ram_bytes(), ram);
    add(r, "machine", OK, "%d cores, %s of memory for this process", cpu_count(), ram);
    for (; *isas != NULL && n < sizeof list; isas++) {
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n > 0 ? ", " : "", *isas);
    }
    add(r, "instruction sets", OK, "%s", list);
}

static void check_engine(struct report *r, const struct settings *s)
{
    const struct kernels *used = kernels_get(s->isa);
    const char *const *isa;
    char expected[SHA256_HEX_BYTES];
    char got[SHA256_HEX_BYTES];
    struct err err = {0};
    if (used == NULL) {
        add(r, "engine", FAILED, "MLX_HUB_ISA is %s, which this machine cannot run", s->isa);
        return;
    }
    if (self_test_hash("ref", expected, &err) != 0) {
        add(r, "engine", FAILED, "%s", err.message);
        return;
    }
    for (isa = kernels_available(); *isa != NULL; isa++) {
        if (self_test_hash(*isa, got, &err) != 0) {
            add(r, "engine", FAILED, "%s", err.message);
            return;
        }
        if (strcmp(got, expected) != 0) {
            add(r, "engine", FAILED,
                "%s does not compute the same bits as the reference; set MLX_HUB_ISA=ref", *isa);
            return;
        }
    }
    add(r, "engine", OK, "%s in use; every instruction set gives the same bits (%.12s)", used->isa,
        expected);
}

static void check_memory(struct report *r, const struct settings *s)
{
    if (s->memory_limit_lowered) {
        add(r, "memory limit", WARNING,
            "%.2f GB: the default is more than 75%% of this machine's memory and was lowered; set "
            "MLX_MEMORY_LIMIT_GB to choose",
            s->memory_limit_gb);
    } else {
        add(r, "memory limit", OK, "%.2f GB", s->memory_limit_gb);
    }
}

/* --- what the hub keeps -------------------------------------------------------------------------
 */

/* The folder itself or, before it is made, the nearest one above it. */
static void nearest_folder(const char *path, char out[FS_PATH_BYTES_MAX])
{
    snprintf(out, FS_PATH_BYTES_MAX, "%s", path);
    while (!fs_exists(out)) {
        char *slash = strrchr(out, '/');
        if (slash == NULL || slash == out) {
            snprintf(out, FS_PATH_BYTES_MAX, "/");
            return;
        }
        *slash = '\0';
    }
}

static void check_storage(struct report *r, const struct settings *s)
{
    const char *path = s->storage_base_path;
    char dir[FS_PATH_BYTES_MAX];
    char size[32] = "unknown space";
    uint64_t bytes = 0;
    nearest_folder(path, dir);
    if (!fs_is_dir(dir)) {
        add(r, "storage", FAILED, "%s is no folder", dir);
        return;
    }
    if (access(dir, W_OK | X_OK) != 0) {
        add(r, "storage", FAILED, "%s: %s; set STORAGE_BASE_PATH to a folder of yours", dir,
            strerror(errno));
        return;
    }
    if (fs_free_space(dir, &bytes, NULL) == 0) {
        format_bytes((double)bytes, size);
    }
    const bool there = strcmp(dir, path) == 0;
    add(r, "storage", (double)bytes < FREE_BYTES_WANTED ? WARNING : OK, "%s%s, %s free", path,
        there ? "" : " (will be made)", size);
}

/* Files below a folder. */
struct tally {
    const char *dir;
    int depth, folders; /* folders: at the top */
    double bytes;
};

static int add_entry(void *ctx, const char *name, bool is_dir)
{
    struct tally *t = ctx;
    char path[FS_PATH_BYTES_MAX];
    uint64_t bytes = 0;
    if (fs_join(path, t->dir, name, NULL) != 0) {
        return 0;
    }
    if (is_dir && t->depth < TALLY_DEPTH_MAX) {
        struct tally below = {.dir = path, .depth = t->depth + 1};
        (void)!fs_list_dir(path, add_entry, &below, NULL);
        t->bytes += below.bytes;
        t->folders++;
    } else if (!is_dir && fs_size(path, &bytes, NULL) == 0) {
        t->bytes += (double)bytes;
    }
    return 0;
}

static void check_checkpoints(struct report *r, const struct settings *s)
{
    char dir[FS_PATH_BYTES_MAX], size[32], kept[64] = "until they are resumed";
    struct tally tally = {.dir = dir};
    if (fs_join(dir, s->storage_base_path, "checkpoints", NULL) != 0 || !fs_is_dir(dir) ||
        fs_list_dir(dir, add_entry, &tally, NULL) != 0) {
        return;
    }
    if (s->checkpoint_days >= 0) {
        snprintf(kept, sizeof kept, "for %d days (CHECKPOINT_DAYS)", s->checkpoint_days);
    }
    format_bytes(tally.bytes, size);
    add(r, "checkpoints", OK, "%s of %d jobs; failed and cancelled ones keep theirs %s", size,
        tally.folders, kept);
}

static void check_database(struct report *r, const struct settings *s)
{
    struct err err = {0};
    bool exists;
    size_t pending;
    if (database_status(s, &exists, &pending, &err) != 0) {
        add(r, "database", FAILED, "%s", err.message);
    } else if (!exists) {
        add(r, "database", OK, "not there yet; mlx-hub serve makes it");
    } else if (pending > 0) {
        add(r, "database", WARNING, "%zu migrations pending: mlx-hub db migrate", pending);
    } else {
        add(r, "database", OK, "up to date");
    }
}

/* --- the port -----------------------------------------------------------------------------------
 */

/* 0, or the errno of the attempt to listen there. */
static int try_to_listen(const char *host, int port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &list) != 0 || list == NULL) {
        return EADDRNOTAVAIL;
    }
    const int on = 1;
    const int fd = socket(list->ai_family, list->ai_socktype, list->ai_protocol);
    int failure = fd < 0 ? errno : 0;
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
                    bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, 1) != 0)) {
        failure = errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    freeaddrinfo(list);
    return failure;
}

static void check_port(struct report *r, const struct settings *s)
{
    struct err err = {0};
    struct remote remote;
    if (s->port == 0) {
        add(r, "address", OK, "PORT is 0: mlx-hub serve takes any that is free");
        return;
    }
    if (remote_init(&remote, s->host, s->port, s->api_key, &err) != 0) {
        add(r, "address", FAILED, "%s", err.message);
        return;
    }
    const bool served = remote_answers(&remote);
    const int failure = served ? 0 : try_to_listen(s->host, s->port);
    if (served) {
        add(r, "address", OK, "a hub answers at %s", remote.url);
    } else if (failure == 0) {
        add(r, "address", OK, "%s is free; mlx-hub serve starts a hub there", remote.url);
    } else {
        add(r, "address", FAILED, "%s: %s; set HOST or PORT to another", remote.url,
            strerror(failure));
    }
    remote_release(&remote);
}

/* --- the report ---------------------------------------------------------------------------------
 */

static int print_report_json(const struct report *r, const struct settings *s, bool ok,
                             struct err *err)
{
    struct buf buf;
    struct json_out out;
    const struct kernels *used = kernels_get(s->isa);
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_bool(&out, "ok", ok);
    json_out_kv_string(&out, "version", MLX_HUB_VERSION);
    json_out_kv_int(&out, "cores", cpu_count());
    json_out_kv_int(&out, "memory_bytes", (int64_t)machine_ram_bytes());
    json_out_kv_string(&out, "isa", used != NULL ? used->isa : NULL);
    json_out_key(&out, "isa_available");
    json_out_array(&out);
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        json_out_string(&out, *isa);
    }
    json_out_array_end(&out);
    json_out_key(&out, "checks");
    json_out_array(&out);
    for (int i = 0; i < r->n; i++) {
        json_out_object(&out);
        json_out_kv_string(&out, "name", r->checks[i].name);
        json_out_kv_string(&out, "status", verdict_names[r->checks[i].verdict]);
        json_out_kv_string(&out, "detail", r->checks[i].detail);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static int run(const struct args *args, struct err *err)
{
    const struct settings *s = &args->settings;
    struct report r = {.n = 0};
    bool ok = true;
    check_machine(&r);
    check_engine(&r, s);
    check_memory(&r, s);
    check_storage(&r, s);
    check_checkpoints(&r, s);
    check_database(&r, s);
    check_port(&r, s);
    for (int i = 0; i < r.n; i++) {
        ok = ok && r.checks[i].verdict != FAILED;
        if (!args->json) {
            printf("%-8s %-17s %s\n", verdict_names[r.checks[i].verdict], r.checks[i].name,
                   r.checks[i].detail);
        }
    }
    if (args->json && print_report_json(&r, s, ok, err) != EXIT_DONE) {
        return EXIT_FAILED;
    }
    return ok ? EXIT_DONE : EXIT_FAILED;
}

const struct command command_doctor = {
    .name = "doctor",
    .summary = "Check this machine: memory, storage, database, address, engine",
    .usage = "",
    .examples = "  mlx-hub doctor\n"
                "  mlx-hub doctor --json\n",
    .run = run,
};
