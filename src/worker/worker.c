/* claim ─▶ run ─▶ claim …; on its own a worker takes the head of the queue and looks again every
 * POLL_MS; a child of serve takes what serve grants, since serve has found memory for that. */
#include "worker/worker.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "registry/registry.h"
#include "worker/job.h"

enum { POLL_MS = 500, GRANT_BYTES_MAX = 256, NICENESS = 5 };

static atomic_bool stop_asked;

static void on_signal(int signal)
{
    (void)signal;
    atomic_store(&stop_asked, true);
}

static void catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

struct worker {
    struct registry *registry;
    bool is_child, pulls;
    int idle_ms;              /* since the last job */
    struct frame_conn conn;   /* with serve; valid when is_child */
    char granted[UUID_BYTES]; /* the job that a child may take, "" = none */
    struct job_watch watch;   /* where no serve may be there to do it */
};

/* A worker on its own also takes up what others left: a job is running for nobody when both serve
 * and its worker are gone. */
static int look_after_others(struct worker *w, struct err *err)
{
    return w->is_child
               ? 0
               : registry_watch_jobs(w->registry, &w->watch, clock_monotonic_ns(), NULL, err);
}

/* Until there may be work. ERR_CLOSED when serve is gone. */
static int wait_for_work(struct worker *w, struct err *err)
{
    struct buf grant;
    uint8_t type;
    if (!w->is_child) {
        clock_sleep_ms(POLL_MS);
        return 0;
    }
    buf_init(&grant, GRANT_BYTES_MAX);
    struct err quiet = {0};
    const int rc = frame_recv(&w->conn, &type, &grant, POLL_MS, &quiet);
    if (rc == 0 && grant.len < sizeof w->granted) {
        memcpy(w->granted, grant.data, grant.len);
        w->granted[grant.len] = '\0';
    }
    buf_release(&grant);
    if (rc == 0 || rc == -ERR_TIMEOUT) {
        return 0;
    }
    return err_set(err, ERR_CLOSED, "%s", quiet.message);
}

static int open_worker(struct worker *w, const struct settings *s,
                       const struct worker_options *options, struct err *err)
{
    const struct registry_options registry = {.database_url = s->database_url,
                                              .base_path = s->storage_base_path,
                                              .models_path = s->storage_models_path,
                                              .datasets_path = s->storage_datasets_path,
                                              .migrate = !options->is_child};
    int rc = 0;
    if (options->is_child) {
        rc = proc_child_init(PROC_CONTROL_FD, err);
        if (rc == 0) {
            rc = frame_conn_init(&w->conn, PROC_CONTROL_FD, err);
        }
        w->is_child = rc == 0;
    }
    w->pulls = options->pulls;
    return rc == 0 ? registry_open(&w->registry, &registry, err) : rc;
}

/* Claims and runs one job. *found false: nothing is queued. */
static int run_one(struct worker *w, const struct settings *s, bool *found, struct err *err)
{
    const struct job_worker self = {.is_child = w->is_child,
                                    .boot_id = registry_boot_id(w->registry),
                                    .pid = (int64_t)getpid(),
                                    .job_id = w->is_child ? w->granted : NULL,
                                    .lane = w->pulls      ? LANE_PULLS
                                            : w->is_child ? LANE_WORK
                                                          : LANE_ALL};
    struct arena arena;
    struct job_row row;
    if (w->is_child && w->granted[0] == '\0') {
        return 0;
    }
    arena_init(&arena, 0);
    int rc = look_after_others(w, err);
    rc = rc == 0 ? registry_claim_job(w->registry, &self, &arena, &row, found, err) : rc;
    if (rc == 0 && *found) {
        log_event(LOG_INFO, "worker", "job_started", "job=%s", row.id);
        rc = job_run(w->registry, s, &row, &stop_asked, err);
        log_event(LOG_INFO, "worker", "job_ended", "job=%s", row.id);
    }
    arena_release(&arena);
    if (rc == 0) {
        w->granted[0] = '\0'; /* one grant, one job */
    }
    return rc;
}

int worker_run(const struct settings *settings, const struct worker_options *options, int *n_jobs,
               struct err *err)
{
    *n_jobs = 0;
    struct worker w = {0};
    catch_signals();
    if (setpriority(PRIO_PROCESS, 0, NICENESS) != 0) {
        log_event(LOG_DEBUG, "worker", "not_niced", "pid=%d", (int)getpid());
    }
    int rc = open_worker(&w, settings, options, err);
    while (rc == 0 && !atomic_load(&stop_asked)) {
        bool found = false;
        struct err fault = {0};
        rc = run_one(&w, settings, &found, &fault);
        *n_jobs += found;
        if (rc != 0) { /* the database is away: the job is safe, try again */
            log_event(LOG_WARNING, "worker", "registry", "error=\"%s\"", fault.message);
            rc = 0;
        }
        if (!found && options->once) {
            break;
        }
        w.idle_ms = found ? 0 : w.idle_ms + POLL_MS;
        if (w.pulls && w.idle_ms > WORKER_IDLE_MS) {
            break;
        }
        if (!found) {
            rc = wait_for_work(&w, err);
        }
    }
    registry_close(w.registry);
    if (w.is_child) {
        frame_conn_release(&w.conn);
    }
    return rc == -ERR_CLOSED ? 0 : rc;
}
