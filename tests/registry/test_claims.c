/* Running jobs: claims, fences, ends, deaths, sweeps, silence. */
#include "registry/hub.h"

#include <math.h>
#include <pthread.h>

#include "registry/checkpoints.h"

#define SECOND_NS 1000000000LL

enum { CLAIMERS = 4, JOBS = 12 };

struct claimer {
    struct hub *hub;
    struct registry *registry;
    int claimed;
    bool failed;
};

/* Takes jobs and ends them until the queue is empty; two at once would be a failure. */
static void *take_all(void *ctx)
{
    static _Atomic int running, done;
    struct claimer *claimer = ctx;
    struct arena arena;

    arena_init(&arena, 0);
    while (done < JOBS && !claimer->failed) {
        struct job_worker worker = {false, "boot", NULL, getpid(), NULL, LANE_ALL};
        struct job_row job;
        struct err err = {0};
        bool claimed = false;

        if (registry_claim_job(claimer->registry, &worker, &arena, &job, &claimed, &err) < 0)
            claimer->failed = true;
        if (!claimed)
            continue;
        if (++running != 1)
            claimer->failed = true;
        claimer->claimed++;
        done++;
        --running;
        if (registry_job_fail(claimer->registry, job.id, job.fence, "done", &err) < 0)
            claimer->failed = true;
    }
    arena_release(&arena);
    return NULL;
}

/* Half of the claimers have a pool of their own, as another process would. */
static void test_claimers_never_share_a_job(void **state)
{
    struct hub *hub = *state;
    struct registry_options options = {.database_url = hub->url, .base_path = hub->dir};
    struct registry *other = NULL;
    struct claimer claimers[CLAIMERS];
    pthread_t threads[CLAIMERS];
    int total = 0;

    hub_fill(hub);
    for (int i = 0; i < JOBS; i++)
        hub_job(hub);
    assert_ok(registry_open(&other, &options, &hub->err), &hub->err);
    for (int i = 0; i < CLAIMERS; i++) {
        claimers[i] = (struct claimer){hub, i % 2 ? other : hub->registry, 0, false};
        assert_int_equal(pthread_create(&threads[i], NULL, take_all, &claimers[i]), 0);
    }
    for (int i = 0; i < CLAIMERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(claimers[i].failed);
        total += claimers[i].claimed;
    }
    assert_int_equal(total, JOBS);
    registry_close(other);
}

static void test_one_at_a_time_in_order(void **state)
{
    struct hub *hub = *state;
    struct job_row first, second, row;

    hub_fill(hub);
    assert_false(hub_claim(hub, &row));
    first = hub_job(hub);
    second = hub_job(hub);
    assert_true(hub_claim(hub, &row));
    assert_string_equal(row.id, first.id);
    assert_int_equal(row.status, JOB_RUNNING);
    assert_non_null(row.started_at);
    assert_non_null(row.heartbeat_at);
    assert_string_equal(row.owner, "child");
    int64_t fence = row.fence;
    assert_false(hub_claim(hub, &row));
    assert_ok(registry_job_fail(hub->registry, first.id, fence, "x", &hub->err), &hub->err);
    assert_true(hub_claim(hub, &row));
    assert_string_equal(row.id, second.id);
    assert_true(row.fence > fence);
}

static void test_reports(void **state)
{
    struct hub *hub = *state;
    struct job_progress progress = {5, 10, 0.5, 1.25, NAN, 1e-3, 100, 1 << 20, 60, NAN};
    struct metric_row metrics[] = {{"loss", 5, 1.25, "2026-01-01T00:00:00.000000Z"},
                                   {"lr", 5, NAN, "2026-01-01T00:00:00.000000Z"}};
    struct metric_row *rows = NULL;
    struct job_row job;
    size_t count = 0;
    bool cancel = true;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    for (int i = 0; i < 2; i++) /* the same points again, as after a resume */
        assert_ok(registry_job_report(hub->registry, job.id, job.fence, &progress, metrics, 2,
                                      &cancel, &hub->err),
                  &hub->err);
    assert_false(cancel);
    job = hub_get_job(hub, job.id);
    assert_int_equal(job.progress.step, 5);
    assert_true(job.progress.loss == 1.25);
    assert_true(isnan(job.progress.val_loss));
    assert_int_equal(job.progress.memory_bytes, 1 << 20);
    assert_ok(registry_job_metrics(hub->registry, job.id, NULL, -1, &hub->arena, &rows, &count,
                                   NULL, &hub->err),
              &hub->err);
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].name, "loss");
    assert_true(isnan(rows[1].value));
    assert_ok(registry_job_metrics(hub->registry, job.id, "loss", 5, &hub->arena, &rows, &count,
                                   NULL, &hub->err),
              &hub->err);
    assert_int_equal(count, 0);
}

/* More points than an answer holds: what is left out is whole steps at the end, of every series,
 * and the next answer goes on there. */
static void test_a_long_series_comes_in_parts(void **state)
{
    enum { STEPS = JOB_METRICS_MAX / 2 + 10 };
    static const char *const names[] = {"val_loss", "loss"};
    struct hub *hub = *state;
    struct metric_row *metrics = calloc((size_t)STEPS * 2, sizeof *metrics), *rows = NULL;
    struct job_row job;
    size_t count = 0, seen[2] = {0};
    int64_t more = 0, after = -1;
    int answers = 0;

    assert_non_null(metrics);
    for (size_t i = 0; i < (size_t)STEPS * 2; i++)
        metrics[i] = (struct metric_row){names[i % 2], (int64_t)(i / 2), 1.0, "t"};
    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_report(hub->registry, job.id, job.fence, NULL, metrics,
                                  (size_t)STEPS * 2, NULL, &hub->err),
              &hub->err);
    for (; answers == 0 || more >= 0; answers++, after = more) {
        assert_ok(registry_job_metrics(hub->registry, job.id, NULL, after, &hub->arena, &rows,
                                       &count, &more, &hub->err),
                  &hub->err);
        assert_true(count <= JOB_METRICS_MAX && answers < 3);
        for (size_t i = 0; i < count; i++) {
            const size_t series = strcmp(rows[i].name, "loss") == 0;

            assert_true(i == 0 || strcmp(rows[i - 1].name, rows[i].name) <= 0);
            assert_int_equal(rows[i].step, seen[series]++);
        }
    }
    assert_int_equal(answers, 2);
    assert_int_equal(seen[0], STEPS);
    assert_int_equal(seen[1], STEPS);
    free(metrics);
}

/* Every call of a worker that lost its job is refused and changes nothing. */
static void test_a_stale_fence_is_refused(void **state)
{
    struct hub *hub = *state;
    struct job_progress progress = {.step = 99};
    struct metric_row metric = {"loss", 99, 9, "x"}, *rows = NULL;
    struct version_result result = {NULL, "aa"};
    struct version_row version;
    struct job_row old, job;
    enum job_status status;
    char path[FS_PATH_BYTES_MAX];
    size_t count = 0;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &old));
    assert_ok(registry_job_died(hub->registry, old.id, old.fence, "killed", &status, &hub->err),
              &hub->err);
    assert_int_equal(status, JOB_QUEUED);
    for (int held = 0; held < 2; held++) { /* queued again, then held by another */
        if (held)
            assert_true(hub_claim(hub, &job));
        struct registry *r = hub->registry;
        assert_err(registry_job_report(r, old.id, old.fence, NULL, NULL, 0, NULL, &hub->err),
                   &hub->err, ERR_CONFLICT);
        assert_err(
            registry_job_report(r, old.id, old.fence, &progress, &metric, 1, NULL, &hub->err),
            &hub->err, ERR_CONFLICT);
        assert_err(registry_job_checkpoint(r, old.id, old.fence, 9, &hub->err), &hub->err,
                   ERR_CONFLICT);
        assert_err(
            registry_job_version(r, old.id, old.fence, &hub->arena, &version, path, &hub->err),
            &hub->err, ERR_CONFLICT);
        assert_err(registry_job_publish(r, old.id, old.fence, &result, &hub->err), &hub->err,
                   ERR_CONFLICT);
        assert_err(registry_job_complete(r, old.id, old.fence, NULL, &hub->err), &hub->err,
                   ERR_CONFLICT);
        assert_err(registry_job_fail(r, old.id, old.fence, "x", &hub->err), &hub->err,
                   ERR_CONFLICT);
        assert_err(registry_job_stopped(r, old.id, old.fence, &hub->err), &hub->err, ERR_CONFLICT);
        assert_err(registry_job_hand_back(r, old.id, old.fence, &hub->err), &hub->err,
                   ERR_CONFLICT);
    }
    assert_ok(registry_job_died(hub->registry, old.id, old.fence, "late", &status, &hub->err),
              &hub->err);
    assert_int_equal(status, JOB_RUNNING); /* the other's run is untouched */
    job = hub_get_job(hub, job.id);
    assert_int_equal(job.progress.step, 0);
    assert_int_equal(job.checkpoint_step, 0);
    assert_null(job.model_version_id);
    assert_ok(registry_job_metrics(hub->registry, job.id, NULL, -1, &hub->arena, &rows, &count,
                                   NULL, &hub->err),
              &hub->err);
    assert_int_equal(count, 0);
}

static void test_final_is_final(void **state)
{
    struct hub *hub = *state;
    struct job_row job;
    enum job_status status;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_fail(hub->registry, job.id, job.fence, "NaN/Inf loss", &hub->err),
              &hub->err);
    assert_err(registry_job_complete(hub->registry, job.id, job.fence, NULL, &hub->err), &hub->err,
               ERR_CONFLICT);
    assert_ok(registry_job_died(hub->registry, job.id, job.fence, "exit 1", &status, &hub->err),
              &hub->err);
    assert_int_equal(status, JOB_FAILED);
    job = hub_get_job(hub, job.id);
    assert_int_equal(job.status, JOB_FAILED);
    assert_string_equal(job.error_message, "NaN/Inf loss");
}

static void test_long_messages_are_cut(void **state)
{
    struct hub *hub = *state;
    static char message[6000 * 2 + 1];
    struct job_row job;

    for (int i = 0; i < 6000; i++)
        memcpy(message + 2 * i, "\xc3\xa9", 2);
    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_fail(hub->registry, job.id, job.fence, message, &hub->err), &hub->err);
    assert_int_equal(strlen(hub_get_job(hub, job.id).error_message), 2 * JOB_ERROR_CHARACTERS_MAX);
}

static void test_the_version_follows_the_job(void **state)
{
    struct hub *hub = *state;
    struct version_result result = {NULL, "aa"};
    struct version_row version, again;
    struct job_row job;
    enum job_status status;
    char path[FS_PATH_BYTES_MAX], leftover[FS_PATH_BYTES_MAX];

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_version(hub->registry, job.id, job.fence, &hub->arena, &version, path,
                                   &hub->err),
              &hub->err);
    assert_int_equal(version.status, VERSION_TRAINING);
    assert_string_equal(path, hub_path(hub, "models/shop/versions/1.0.0"));
    /* nothing is ready before its folder is there */
    assert_err(registry_job_publish(hub->registry, job.id, job.fence, &result, &hub->err),
               &hub->err, ERR_CORRUPT);
    /* killed between the folder's rename and the commit: the next run starts clean, same version */
    assert_ok(fs_join(leftover, path, "sub", &hub->err), &hub->err);
    assert_ok(fs_mkdirs(leftover, &hub->err), &hub->err);
    assert_ok(registry_job_died(hub->registry, job.id, job.fence, "killed", &status, &hub->err),
              &hub->err);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_version(hub->registry, job.id, job.fence, &hub->arena, &again, path,
                                   &hub->err),
              &hub->err);
    assert_string_equal(again.id, version.id);
    assert_false(fs_exists(path));
    again = hub_publish(hub, &job);
    assert_int_equal(again.status, VERSION_READY);
    assert_int_equal(hub_get_job(hub, job.id).status, JOB_COMPLETED);
    /* and one that fails takes its version with it */
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_version(hub->registry, job.id, job.fence, &hub->arena, &version, path,
                                   &hub->err),
              &hub->err);
    assert_ok(registry_job_fail(hub->registry, job.id, job.fence, "x", &hub->err), &hub->err);
    assert_ok(registry_get_version(hub->registry, hub->model, version.id, &hub->arena, NULL,
                                   &version, &hub->err),
              &hub->err);
    assert_int_equal(version.status, VERSION_FAILED);
}

static enum job_status die(struct hub *hub, const struct job_row *job)
{
    enum job_status status;

    assert_ok(registry_job_died(hub->registry, job->id, job->fence, "killed by signal 9", &status,
                                &hub->err),
              &hub->err);
    return status;
}

static void test_three_resumes_without_progress(void **state)
{
    struct hub *hub = *state;
    struct job_row job, later;

    hub_fill(hub);
    hub_job(hub);
    later = hub_job(hub);
    for (int i = 0; i < JOB_IDLE_RESUMES_MAX; i++) {
        assert_true(hub_claim(hub, &job));
        assert_string_not_equal(job.id, later.id); /* before the ones that came later */
        assert_int_equal(die(hub, &job), JOB_QUEUED);
    }
    /* a new checkpoint starts the count again */
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_checkpoint(hub->registry, job.id, job.fence, 100, &hub->err), &hub->err);
    assert_int_equal(die(hub, &job), JOB_QUEUED);
    for (int i = 1; i < JOB_IDLE_RESUMES_MAX; i++) {
        assert_true(hub_claim(hub, &job));
        assert_int_equal(job.resume_step, 100);
        assert_int_equal(die(hub, &job), JOB_QUEUED);
    }
    assert_true(hub_claim(hub, &job));
    assert_int_equal(die(hub, &job), JOB_FAILED);
    job = hub_get_job(hub, job.id);
    assert_non_null(strstr(job.error_message, "killed by signal 9"));
    assert_int_equal(job.resumes, 2 * JOB_IDLE_RESUMES_MAX);
}

static void test_handing_back_does_not_count(void **state)
{
    struct hub *hub = *state;
    struct job_row job;

    hub_fill(hub);
    hub_job(hub);
    for (int i = 0; i < JOB_IDLE_RESUMES_MAX + 3; i++) {
        assert_true(hub_claim(hub, &job));
        assert_ok(registry_job_hand_back(hub->registry, job.id, job.fence, &hub->err), &hub->err);
    }
    assert_int_equal(hub_get_job(hub, job.id).status, JOB_QUEUED);
}

static void test_a_dead_worker_was_asked_to_stop(void **state)
{
    struct hub *hub = *state;
    struct job_row job, row;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_cancel_job(hub->registry, job.id, &hub->arena, &row, &hub->err), &hub->err);
    assert_int_equal(die(hub, &job), JOB_CANCELLED);
}

/* A start of serve: its predecessor's children are dead, a foreign worker is dead when its process
 * is, and one that lives is left alone. */
static void test_sweep(void **state)
{
    struct hub *hub = *state;
    struct job_row job;
    int swept = -1;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_sweep_jobs(hub->registry, &swept, &hub->err), &hub->err);
    assert_int_equal(swept, 0); /* our own child */
    registry_close(hub->registry);
    hub_open(hub);
    assert_ok(registry_sweep_jobs(hub->registry, &swept, &hub->err), &hub->err);
    assert_int_equal(swept, 1);
    assert_int_equal(hub_get_job(hub, job.id).status, JOB_QUEUED);
    assert_true(hub_claim_as(hub, false, getpid(), &job));
    registry_close(hub->registry);
    hub_open(hub);
    assert_ok(registry_sweep_jobs(hub->registry, &swept, &hub->err), &hub->err);
    assert_int_equal(swept, 0);
    assert_ok(registry_job_hand_back(hub->registry, job.id, job.fence, &hub->err), &hub->err);
    assert_true(hub_claim_as(hub, false, 0x3ffffffe, &job)); /* no process has this id */
    registry_close(hub->registry);
    hub_open(hub);
    assert_ok(registry_sweep_jobs(hub->registry, &swept, &hub->err), &hub->err);
    assert_int_equal(swept, 1);
}

static int watch_until(struct hub *hub, struct job_watch *watch, int64_t *now_ns, int64_t seconds,
                       int64_t step)
{
    int given_up = 0, total = 0;

    for (int64_t s = 0; s <= seconds; s += step) {
        assert_ok(registry_watch_jobs(hub->registry, watch, *now_ns, &given_up, &hub->err),
                  &hub->err);
        total += given_up;
        *now_ns += step * SECOND_NS;
    }
    return total;
}

static void test_silence(void **state)
{
    struct hub *hub = *state;
    struct job_watch watch = {0};
    struct job_row job;
    int64_t now_ns = 77 * SECOND_NS;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim_as(hub, false, getpid(), &job));
    assert_int_equal(watch_until(hub, &watch, &now_ns, 280, 20), 0);
    clock_sleep_ms(1); /* so that the heartbeat's time differs */
    assert_ok(registry_job_report(hub->registry, job.id, job.fence, NULL, NULL, 0, NULL, &hub->err),
              &hub->err);
    assert_int_equal(watch_until(hub, &watch, &now_ns, 280, 20), 0);
    /* a closed lid: an hour passes between two looks and counts as a minute */
    now_ns += 3600 * SECOND_NS;
    assert_ok(registry_job_report(hub->registry, job.id, job.fence, NULL, NULL, 0, NULL, &hub->err),
              &hub->err);
    assert_int_equal(watch_until(hub, &watch, &now_ns, 20, 20), 0);
    now_ns += 3600 * SECOND_NS;
    assert_int_equal(watch_until(hub, &watch, &now_ns, 200, 20), 0);
    assert_int_equal(watch_until(hub, &watch, &now_ns, 60, 20), 1);
    job = hub_get_job(hub, job.id);
    assert_int_equal(job.status, JOB_FAILED);
    assert_string_equal(job.error_message, "Job timed out (no heartbeat)");
}

static void test_silence_with_a_checkpoint(void **state)
{
    struct hub *hub = *state;
    struct job_watch watch = {0};
    struct job_row job;
    int64_t now_ns = 0;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim_as(hub, false, getpid(), &job));
    assert_ok(registry_job_checkpoint(hub->registry, job.id, job.fence, 10, &hub->err), &hub->err);
    assert_int_equal(watch_until(hub, &watch, &now_ns, 400, 20), 1);
    assert_int_equal(hub_get_job(hub, job.id).status, JOB_QUEUED);
    /* taken up anew, the silence is counted anew */
    assert_true(hub_claim_as(hub, false, getpid(), &job));
    assert_int_equal(watch_until(hub, &watch, &now_ns, 280, 20), 0);
}

static void test_a_process_that_is_gone_needs_no_silence(void **state)
{
    struct hub *hub = *state;
    struct job_watch watch = {0};
    struct job_row job;
    int64_t now_ns = 0;

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim_as(hub, false, 0x3ffffffe, &job));       /* no process has this id */
    assert_int_equal(watch_until(hub, &watch, &now_ns, 0, 20), 0); /* of this very boot: waitpid */
    registry_close(hub->registry);
    hub_open(hub);
    assert_int_equal(watch_until(hub, &watch, &now_ns, 0, 20), 1);
    assert_int_equal(watch.n_silent, 0);
    assert_int_equal(hub_get_job(hub, job.id).status, JOB_QUEUED);
    /* one that hangs is named, so that its parent can end it */
    assert_true(hub_claim_as(hub, false, getpid(), &job));
    for (int given_up = 0; given_up == 0; now_ns += 20 * SECOND_NS) {
        assert_ok(registry_watch_jobs(hub->registry, &watch, now_ns, &given_up, &hub->err),
                  &hub->err);
        assert_true(now_ns < 600 * SECOND_NS);
    }
    assert_int_equal(watch.n_silent, 1);
    assert_int_equal(watch.silent_pid[0], getpid());
}

static void put_checkpoints(struct hub *hub, const char *id)
{
    assert_ok(
        fs_mkdirs(hub_path(hub, arena_printf(&hub->arena, "checkpoints/%s/step-1", id)), &hub->err),
        &hub->err);
}

static bool has_checkpoints(struct hub *hub, const char *id)
{
    return hub_has(hub, arena_printf(&hub->arena, "checkpoints/%s", id));
}

/* How many folders are removed when everything that happened is so many days old. */
static int expire(struct hub *hub, int days, double age_days)
{
    int removed = -1;
    const int64_t now_us = clock_wall_us() + (int64_t)(age_days * 86400e6);

    assert_ok(registry_expire_checkpoints(hub->registry, days, now_us, &removed, &hub->err),
              &hub->err);
    return removed;
}

static void test_checkpoints_expire(void **state)
{
    struct hub *hub = *state;
    struct job_row failed, resumed;

    hub_fill(hub);
    (void)hub_job(hub);
    assert_true(hub_claim(hub, &failed));
    put_checkpoints(hub, failed.id);
    put_checkpoints(hub, "not-of-a-job");
    assert_int_equal(expire(hub, 0, 100), 0); /* it runs */
    assert_ok(registry_job_fail(hub->registry, failed.id, failed.fence, "no", &hub->err),
              &hub->err);
    assert_int_equal(expire(hub, -1, 1000), 0);
    assert_int_equal(expire(hub, 7, 6.9), 0);
    assert_ok(registry_resume_job(hub->registry, failed.id, 0, &hub->arena, &resumed, &hub->err),
              &hub->err);
    assert_int_equal(expire(hub, 7, 100), 0); /* its resume waits, in the same folder */
    assert_ok(registry_cancel_job(hub->registry, resumed.id, &hub->arena, &resumed, &hub->err),
              &hub->err);
    assert_int_equal(expire(hub, 7, 6.9), 0);
    assert_true(has_checkpoints(hub, failed.id));
    assert_int_equal(expire(hub, 7, 7.1), 1);
    assert_false(has_checkpoints(hub, failed.id));
    assert_int_equal(hub_entries(hub, "checkpoints"), 1);

    /* what a worker that was killed after its last commit left goes at once */
    (void)hub_job(hub);
    assert_true(hub_claim(hub, &failed));
    put_checkpoints(hub, failed.id);
    (void)hub_publish(hub, &failed);
    assert_int_equal(expire(hub, -1, 0), 1);

    /* a job that is gone, and a removal that was interrupted */
    put_checkpoints(hub, "00000000-0000-4000-8000-000000000000");
    put_checkpoints(hub, ".expired-x");
    assert_int_equal(expire(hub, 7, 6.9), 1);
    assert_int_equal(expire(hub, 7, 7.1), 1);
    assert_int_equal(hub_entries(hub, "checkpoints"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_claimers_never_share_a_job),
        HUB_TEST(test_one_at_a_time_in_order),
        HUB_TEST(test_reports),
        HUB_TEST(test_a_long_series_comes_in_parts),
        HUB_TEST(test_a_stale_fence_is_refused),
        HUB_TEST(test_final_is_final),
        HUB_TEST(test_long_messages_are_cut),
        HUB_TEST(test_the_version_follows_the_job),
        HUB_TEST(test_three_resumes_without_progress),
        HUB_TEST(test_handing_back_does_not_count),
        HUB_TEST(test_a_dead_worker_was_asked_to_stop),
        HUB_TEST(test_sweep),
        HUB_TEST(test_silence),
        HUB_TEST(test_silence_with_a_checkpoint),
        HUB_TEST(test_a_process_that_is_gone_needs_no_silence),
        HUB_TEST(test_checkpoints_expire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
