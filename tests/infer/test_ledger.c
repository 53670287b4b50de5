/* Who holds what of the memory limit: models loaded, evicted, refused, and a job beside them. The
 * runners are this program: they hold nothing, answer "text" requests at once and work on a
 * generation until it is cancelled. One whose model is a named pipe ends only when somebody opens
 * that. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/frame.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "infer/infer.h"
#include "telemetry/metrics.h"
#include "test.h"

enum { POLLS_MAX = 2000, POLL_MS = 5, FRAME_BYTES = 1 << 16, LIMIT_MB = 100 };

#define MB (1ULL << 20)

/* --- the runner ------------------------------------------------------------------------------- */

static void answer(struct frame_conn *conn, uint8_t type, int64_t number, const char *rest)
{
    struct buf out;
    struct err err = {0};

    buf_init(&out, FRAME_BYTES);
    buf_printf(&out, "{\"r\":%lld%s}", (long long)number, rest);
    if (frame_send(conn, type, out.data, out.len, -1, &err) != 0)
        _exit(1);
    buf_release(&out);
}

static void answer_limit(struct frame_conn *conn, int64_t bytes)
{
    char rest[64];

    (void)snprintf(rest, sizeof rest, ",\"kv_bytes\":%lld", (long long)bytes);
    answer(conn, 'k', 0, rest);
}

static int fake_runner(void)
{
    struct frame_conn conn;
    struct buf payload;
    struct err err = {0};
    uint8_t type = 0;
    char gate[FS_PATH_BYTES_MAX] = "";

    if (proc_child_init(PROC_CONTROL_FD, &err) != 0 ||
        frame_conn_init(&conn, PROC_CONTROL_FD, &err) != 0)
        return 1;
    buf_init(&payload, FRAME_BYTES);
    while (frame_recv(&conn, &type, &payload, -1, &err) == 0 && type != 'Q') {
        json_t *frame = json_parse(payload.data, payload.len, &err);
        const int64_t number = json_integer_value(json_object_get(frame, "r"));
        const char *path = json_string_value(json_object_get(frame, "path"));

        if (type == 'O' && path != NULL && path[0] == '/')
            (void)snprintf(gate, sizeof gate, "%s", path);
        if (type == 'O' && path != NULL && strcmp(path, "broken") == 0)
            answer(&conn, 'x', 0, ",\"code\":6,\"message\":\"the file is damaged\"");
        else if (type == 'O')
            answer(&conn, 'o', 0, ",\"engine\":\"none\",\"numerics_version\":1");
        else if (type == 'G')
            answer(&conn, 'a', number, ",\"prompt_tokens\":1");
        else if (type == 'C')
            answer(&conn, 'x', number, ",\"code\":14,\"message\":\"cancelled\"");
        else if (type == 'T')
            answer(&conn, 'j', number, ",\"result\":{}");
        else if (type == 'K')
            answer_limit(&conn, json_integer_value(json_object_get(frame, "kv_bytes")));
        json_decref(frame);
    }
    buf_release(&payload);
    if (gate[0] != '\0')
        (void)open(gate, O_RDONLY);
    return 0;
}

/* --- the hub's side --------------------------------------------------------------------------- */

static struct infer *open_infer(int max_models)
{
    static const char *const names[] = {"log_level"};
    const char *values[] = {"ERROR"};
    struct settings settings;
    struct infer *infer = NULL;
    struct err err = {0};

    assert_ok(settings_load(&settings, names, values, 1, &err), &err);
    settings.memory_limit_gb = (double)(LIMIT_MB * MB) / 1073741824.0;
    settings.max_models = max_models;
    settings.max_sessions = 4;
    settings.prefix_cache_mb = 1;
    assert_ok(infer_new(&infer, &settings, NULL, &err), &err);
    return infer;
}

static struct infer_spec spec_of(const char *name, uint64_t mb)
{
    const struct infer_spec spec = {
        .base_id = name, .base_key = name, .base_path = name, .memory_bytes = mb * MB};

    return spec;
}

/* Loads a model, which is idle afterwards. */
static int use(struct infer *infer, const struct infer_spec *spec, struct err *err)
{
    struct buf out;
    json_t *nothing = json_object();

    buf_init(&out, FRAME_BYTES);
    const int rc = infer_text(infer, INFER_TOKENIZE, spec, nothing, &out, err);
    buf_release(&out);
    json_decref(nothing);
    return rc;
}

/* Of `mb`, `kv_mb` are for keys and values of one session. */
static int load_kv(struct infer *infer, const char *name, uint64_t mb, uint64_t kv_mb,
                   struct err *err)
{
    struct infer_spec spec = spec_of(name, mb);

    spec.kv_bytes = kv_mb * MB;
    return use(infer, &spec, err);
}

/* Of a loaded model, or of all with NULL: what the ledger counts, and of that keys and values. */
static uint64_t counted_mb(struct infer *infer, const char *name, uint64_t *kv_mb)
{
    struct infer_cache cache;
    struct err err = {0};
    uint64_t bytes = 0;

    *kv_mb = 0;
    assert_ok(infer_list(infer, &cache, &err), &err);
    for (int i = 0; i < cache.n_models; i++)
        if (name == NULL || strcmp(cache.models[i].base_id, name) == 0) {
            bytes += cache.models[i].memory_bytes;
            *kv_mb += cache.models[i].kv_bytes / MB;
        }
    assert_true(cache.memory_bytes <= cache.memory_bytes_max);
    mem_free(cache.models);
    return bytes / MB;
}

static int load(struct infer *infer, const char *name, uint64_t mb, struct err *err)
{
    const struct infer_spec spec = spec_of(name, mb);

    return use(infer, &spec, err);
}

static bool is_loaded(struct infer *infer, const char *name)
{
    struct infer_cache cache;
    struct err err = {0};
    bool found = false;

    assert_ok(infer_list(infer, &cache, &err), &err);
    for (int i = 0; i < cache.n_models; i++)
        found = found || strcmp(cache.models[i].base_id, name) == 0;
    mem_free(cache.models);
    return found;
}

static void wait_until_gone(struct infer *infer, const char *name)
{
    for (int i = 0; i < POLLS_MAX && is_loaded(infer, name); i++)
        clock_sleep_ms(POLL_MS);
    assert_false(is_loaded(infer, name));
}

/* A request that runs until it is cancelled. */
struct work {
    struct infer_request *request;
    atomic_int accepted, failed;
};

static void on_accepted(void *ctx, const struct infer_accepted *accepted)
{
    (void)accepted;
    atomic_store(&((struct work *)ctx)->accepted, 1);
}

static void on_token(void *ctx, const struct infer_token *token)
{
    (void)ctx;
    (void)token;
}

static void on_done(void *ctx, const struct infer_done *done)
{
    (void)ctx;
    (void)done;
}

static void on_failed(void *ctx, const struct err *err)
{
    (void)err;
    atomic_store(&((struct work *)ctx)->failed, 1);
}

static void wait_for(atomic_int *flag)
{
    for (int i = 0; i < POLLS_MAX && !atomic_load(flag); i++)
        clock_sleep_ms(POLL_MS);
    assert_true(atomic_load(flag));
}

static void begin_work(struct infer *infer, struct work *work, const char *name, uint64_t mb)
{
    const struct infer_events events = {
        .accepted = on_accepted, .token = on_token, .done = on_done, .failed = on_failed};
    struct infer_spec spec = spec_of(name, mb);
    struct err err = {0};

    memset(work, 0, sizeof *work);
    spec.prompt = "a";
    spec.prompt_bytes = 1;
    infer_sampling_defaults(&spec.sampling);
    assert_ok(infer_submit(infer, &spec, &events, work, &work->request, &err), &err);
    wait_for(&work->accepted);
}

static void end_work(struct work *work)
{
    infer_cancel(work->request);
    wait_for(&work->failed);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void the_longest_unused_goes(void **state)
{
    struct infer *infer = open_infer(8);
    struct err err = {0};

    (void)state;
    assert_ok(load(infer, "a", 40, &err), &err);
    assert_ok(load(infer, "b", 40, &err), &err);
    assert_ok(load(infer, "a", 40, &err), &err);
    assert_ok(load(infer, "c", 40, &err), &err);
    wait_until_gone(infer, "b");
    assert_true(is_loaded(infer, "a"));
    assert_true(is_loaded(infer, "c"));
    infer_free(infer, 1000);
}

static void so_many_models_and_no_more(void **state)
{
    struct infer *infer = open_infer(2);
    struct err err = {0};

    (void)state;
    assert_ok(load(infer, "a", 1, &err), &err);
    assert_ok(load(infer, "b", 1, &err), &err);
    assert_ok(load(infer, "c", 1, &err), &err);
    wait_until_gone(infer, "a");
    assert_true(is_loaded(infer, "b"));
    infer_free(infer, 1000);
}

static void nobody_is_evicted_in_vain(void **state)
{
    struct infer *infer = open_infer(8);
    struct work work;
    struct err err = {0};

    (void)state;
    begin_work(infer, &work, "busy", 60);
    assert_ok(load(infer, "idle", 20, &err), &err);
    assert_int_equal(load(infer, "big", 50, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "needs 0.05 GB"));
    assert_non_null(strstr(err.message, "0.06 of 0.10 GB are in use by 1 busy models"));
    err_clear(&err);
    assert_true(is_loaded(infer, "idle"));
    assert_int_equal(load(infer, "giant", 110, &err), -ERR_UNPROCESSABLE); /* for good */
    assert_non_null(strstr(err.message, "needs 0.11 GB and the memory limit is 0.10 GB"));
    err_clear(&err);
    assert_ok(load(infer, "fits", 40, &err), &err);
    wait_until_gone(infer, "idle");
    end_work(&work);
    infer_free(infer, 1000);
}

static void a_failed_load_harms_nobody(void **state)
{
    struct infer *infer = open_infer(8);
    struct work work;
    struct err err = {0};

    (void)state;
    begin_work(infer, &work, "busy", 20);
    assert_int_not_equal(load(infer, "broken", 20, &err), 0);
    assert_string_equal(err.message, "the file is damaged");
    err_clear(&err);
    wait_until_gone(infer, "broken");
    assert_int_equal(atomic_load(&work.failed), 0);
    assert_ok(load(infer, "busy", 20, &err), &err);
    assert_ok(load(infer, "other", 80, &err), &err); /* nothing is counted for the broken one */
    end_work(&work);
    infer_free(infer, 1000);
}

static void keep_alive_is_the_requests(void **state)
{
    struct infer *infer = open_infer(8);
    struct infer_spec spec = spec_of("a", 10);
    struct err err = {0};
    struct infer_cache cache;

    (void)state;
    spec.has_keep_alive = true;
    spec.keep_alive_ms = -1;
    assert_ok(use(infer, &spec, &err), &err);
    assert_ok(infer_list(infer, &cache, &err), &err);
    assert_int_equal(cache.n_models, 1);
    assert_int_equal(cache.models[0].keep_alive_ms, -1);
    mem_free(cache.models);
    spec.keep_alive_ms = 0;
    assert_ok(use(infer, &spec, &err), &err);
    wait_until_gone(infer, "a");
    infer_free(infer, 1000);
}

static void idle_models_go_for_a_job(void **state)
{
    struct infer *infer = open_infer(8);
    struct infer_memory memory;
    struct err err = {0};
    int polls = 0;

    (void)state;
    assert_ok(load(infer, "a", 60, &err), &err);
    while (!infer_reserve(infer, "job", 70 * MB, false, &memory) && polls++ < POLLS_MAX) {
        assert_int_equal(memory.held, 70 * MB); /* nobody else gets it meanwhile */
        clock_sleep_ms(POLL_MS);
    }
    assert_false(is_loaded(infer, "a"));
    infer_memory(infer, &memory);
    assert_int_equal(memory.models, 0);
    assert_int_equal(memory.held, 70 * MB);
    infer_free(infer, 1000);
}

static void a_job_waits_for_busy_models(void **state)
{
    struct infer *infer = open_infer(8);
    struct infer_memory memory;
    struct work work;
    struct err err = {0};

    (void)state;
    begin_work(infer, &work, "busy", 40);
    assert_ok(load(infer, "idle", 10, &err), &err);
    assert_false(infer_reserve(infer, "job", 70 * MB, false, &memory));
    assert_int_equal(memory.busy, 40 * MB);
    assert_int_equal(memory.n_busy, 1);
    assert_int_equal(memory.held, 0);
    assert_true(is_loaded(infer, "idle"));
    end_work(&work);
    for (int i = 0; i < POLLS_MAX && !infer_reserve(infer, "job", 70 * MB, false, &memory); i++)
        clock_sleep_ms(POLL_MS);
    assert_int_equal(memory.held, 70 * MB);
    infer_free(infer, 1000);
}

/* Nothing new begins, what has begun goes on to its end, and then the job has its memory. */
static void a_job_insists(void **state)
{
    struct infer *infer = open_infer(8);
    struct infer_memory memory;
    struct work work;
    struct err err = {0};

    (void)state;
    begin_work(infer, &work, "busy", 40);
    assert_false(infer_reserve(infer, "job", 70 * MB, true, &memory));
    assert_true(memory.insisted);
    assert_int_equal(load(infer, "busy", 40, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "a job has waited long enough"));
    err_clear(&err);
    assert_int_equal(load(infer, "other", 1, &err), -ERR_UNAVAILABLE);
    err_clear(&err);
    assert_int_equal(atomic_load(&work.failed), 0);
    infer_give_back(infer, "another");
    assert_int_equal(load(infer, "busy", 40, &err), -ERR_UNAVAILABLE);
    err_clear(&err);
    infer_give_back(infer, "job"); /* it was cancelled */
    assert_ok(load(infer, "busy", 40, &err), &err);

    assert_false(infer_reserve(infer, "job", 70 * MB, true, &memory));
    end_work(&work);
    for (int i = 0; i < POLLS_MAX && !infer_reserve(infer, "job", 70 * MB, true, &memory); i++)
        clock_sleep_ms(POLL_MS);
    assert_int_equal(memory.held, 70 * MB);
    assert_false(memory.insisted);
    assert_ok(load(infer, "small", 20, &err), &err); /* what fits beside it may begin again */

    /* one that can never have it keeps nobody out */
    assert_false(infer_reserve(infer, "giant", 101 * MB, true, &memory));
    assert_false(memory.insisted);
    infer_free(infer, 1000);
}

static atomic_int asked;

static void job_has_ended(void *infer)
{
    atomic_fetch_add(&asked, 1);
    infer_give_back(infer, "job");
}

static void a_running_job_counts(void **state)
{
    struct infer *infer = open_infer(8);
    struct err err = {0};

    (void)state;
    infer_hold(infer, "job", 70 * MB);
    assert_int_equal(load(infer, "a", 40, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "0.07 GB by a running job"));
    err_clear(&err);
    assert_ok(load(infer, "small", 20, &err), &err);
    infer_give_back(infer, "another");
    assert_int_equal(load(infer, "a", 40, &err), -ERR_UNAVAILABLE);
    err_clear(&err);
    infer_on_short(infer, job_has_ended, infer);
    assert_ok(load(infer, "a", 40, &err), &err);
    assert_int_equal(atomic_load(&asked), 1);
    infer_free(infer, 1000);
}

/* A model takes a quarter of what the limit leaves, as much as its sessions can use. */
static void keys_and_values_take_a_share_of_what_is_left(void **state)
{
    struct infer *infer = open_infer(8);
    struct err err = {0};
    uint64_t kv;

    (void)state;
    assert_ok(load_kv(infer, "small", 12, 2, &err), &err);
    assert_int_equal(counted_mb(infer, "small", &kv), 12 - 2 + 9); /* four sessions and prefixes */
    assert_int_equal(kv, 4 * 2 + 1);
    assert_ok(load_kv(infer, "large", 45, 30, &err), &err);
    assert_int_equal(counted_mb(infer, "large", &kv), 45 + (100 - 19 - 45) / 4);
    assert_int_equal(kv, 30 + 9);
    assert_ok(load(infer, "unknown", 10, &err), &err);
    assert_int_equal(counted_mb(infer, "unknown", &kv), 10);
    assert_int_equal(kv, 0);
    infer_free(infer, 1000);
}

/* "busy": 40 MB with 10 of keys and values, which have grown by the quarter of what is left. */
static void begin_grown_work(struct infer *infer, struct work *work, uint64_t *kv)
{
    struct err err = {0};

    assert_ok(load_kv(infer, "busy", 40, 10, &err), &err);
    assert_int_equal(counted_mb(infer, "busy", kv), 40 + 60 / 4);
    begin_work(infer, work, "busy", 40);
}

/* Nobody is refused or ended for memory that a busy model can give back. */
static void keys_and_values_are_given_back(void **state)
{
    struct infer *infer = open_infer(8);
    struct infer_memory memory;
    struct work work;
    struct err err = {0};
    uint64_t kv;

    (void)state;
    begin_grown_work(infer, &work, &kv);
    assert_ok(load(infer, "other", 52, &err), &err);
    assert_true(is_loaded(infer, "busy"));
    assert_true(counted_mb(infer, NULL, &kv) <= 100);
    assert_true(kv >= 10 && kv <= 18);
    assert_int_equal(load(infer, "third", 61, &err), -ERR_UNAVAILABLE); /* 40 MB stay */
    err_clear(&err);
    assert_false(infer_reserve(infer, "job", 61 * MB, false, &memory));
    assert_int_equal(memory.busy, 40 * MB);
    for (int i = 0; i < POLLS_MAX && !infer_reserve(infer, "job", 60 * MB, false, &memory); i++)
        clock_sleep_ms(POLL_MS);
    assert_int_equal(memory.held, 60 * MB);
    assert_false(is_loaded(infer, "other"));
    assert_int_equal(counted_mb(infer, "busy", &kv), 40);
    assert_int_equal(kv, 10);
    infer_give_back(infer, "job");
    for (int i = 0; i < POLLS_MAX && kv < 25; i++) { /* and taken again when it is free */
        clock_sleep_ms(POLL_MS);
        (void)counted_mb(infer, "busy", &kv);
    }
    assert_int_equal(kv, 25);
    assert_int_equal(atomic_load(&work.failed), 0);
    end_work(&work);
    infer_free(infer, 1000);
}

/* … also for a job that a worker took without asking. */
static void keys_and_values_are_given_back_to_a_running_job(void **state)
{
    struct infer *infer = open_infer(8);
    struct work work;
    uint64_t kv;

    (void)state;
    begin_grown_work(infer, &work, &kv);
    infer_hold(infer, "job", 60 * MB);
    for (int i = 0; i < POLLS_MAX && kv > 10; i++) {
        clock_sleep_ms(POLL_MS);
        (void)counted_mb(infer, "busy", &kv);
    }
    assert_int_equal(counted_mb(infer, "busy", &kv), 40);
    assert_int_equal(kv, 10);
    assert_int_equal(atomic_load(&work.failed), 0);
    end_work(&work);
    infer_free(infer, 1000);
}

/* A model of 60 MB that is loaded in a thread of its own. */
struct loading {
    pthread_t thread;
    struct infer *infer;
    int rc;
    struct err err;
};

static void *load_main(void *ctx)
{
    struct loading *l = ctx;

    l->rc = load(l->infer, "wanted", 60, &l->err);
    return NULL;
}

/* Returns when it waits for room. */
static void begin_load(struct infer *infer, struct loading *l)
{
    const struct metric *misses = metric_get(METRIC_MODEL_CACHE_MISSES);
    const double before = metric_value(misses);
    uint64_t kv;

    memset(l, 0, sizeof *l);
    l->infer = infer;
    assert_int_equal(pthread_create(&l->thread, NULL, load_main, l), 0);
    for (int i = 0; i < POLLS_MAX && metric_value(misses) < before + 1; i++)
        clock_sleep_ms(POLL_MS);
    assert_true(metric_value(misses) == before + 1);
    (void)counted_mb(infer, NULL, &kv); /* counted under a lock that is given up to wait */
}

/* What they wait for is being loaded once the first of them goes on: nobody needs room for another.
 */
static void who_waits_for_the_same_model_shares_it(void **state)
{
    struct infer *infer = open_infer(8);
    struct loading loading[3];
    char dir[FS_PATH_BYTES_MAX], gate[FS_PATH_BYTES_MAX];
    struct err err = {0};
    uint64_t kv;

    (void)state;
    assert_ok(fs_join(gate, test_dir_make(dir), "gate", &err), &err);
    assert_int_equal(mkfifo(gate, 0600), 0);
    assert_ok(load(infer, gate, 60, &err), &err);
    for (int i = 0; i < 3; i++)
        begin_load(infer, &loading[i]);
    assert_false(is_loaded(infer, "wanted"));
    const int fd = open(gate, O_RDWR);
    assert_true(fd >= 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(loading[i].thread, NULL), 0);
        assert_ok(loading[i].rc, &loading[i].err);
    }
    close(fd);
    assert_int_equal(counted_mb(infer, NULL, &kv), 60);
    infer_free(infer, 1000);
    test_dir_remove(dir);
}

static void who_waits_for_room_makes_way_for_a_job(void **state)
{
    struct infer *infer = open_infer(8);
    struct infer_memory memory;
    struct loading loading;
    struct work work;
    char dir[FS_PATH_BYTES_MAX], gate[FS_PATH_BYTES_MAX];
    struct err err = {0};

    (void)state;
    assert_ok(fs_join(gate, test_dir_make(dir), "gate", &err), &err);
    assert_int_equal(mkfifo(gate, 0600), 0);
    begin_work(infer, &work, "busy", 30);
    assert_ok(load(infer, gate, 60, &err), &err);
    begin_load(infer, &loading);
    assert_false(infer_reserve(infer, "job", 80 * MB, true, &memory));
    assert_true(memory.insisted);
    assert_int_equal(pthread_join(loading.thread, NULL), 0);
    assert_int_equal(loading.rc, -ERR_UNAVAILABLE);
    assert_non_null(strstr(loading.err.message, "a job has waited long enough"));
    err_clear(&loading.err);
    const int fd = open(gate, O_RDWR);
    assert_true(fd >= 0);
    wait_until_gone(infer, gate);
    close(fd);
    end_work(&work);
    infer_free(infer, 1000);
    test_dir_remove(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_unused_goes),
        cmocka_unit_test(so_many_models_and_no_more),
        cmocka_unit_test(nobody_is_evicted_in_vain),
        cmocka_unit_test(a_failed_load_harms_nobody),
        cmocka_unit_test(keep_alive_is_the_requests),
        cmocka_unit_test(idle_models_go_for_a_job),
        cmocka_unit_test(a_job_waits_for_busy_models),
        cmocka_unit_test(a_job_insists),
        cmocka_unit_test(a_running_job_counts),
        cmocka_unit_test(keys_and_values_take_a_share_of_what_is_left),
        cmocka_unit_test(keys_and_values_are_given_back),
        cmocka_unit_test(keys_and_values_are_given_back_to_a_running_job),
        cmocka_unit_test(who_waits_for_the_same_model_shares_it),
        cmocka_unit_test(who_waits_for_room_makes_way_for_a_job),
    };
    struct err err = {0};

    if (argc > 1 && strcmp(argv[1], "runner") == 0)
        return fake_runner();
    if (log_init("ERROR", false, &err) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
