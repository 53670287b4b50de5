/* A worker:  absent ──(a job, and its time has come)──▶ alive ──(waitpid)──▶ absent
 *
 * Invariants
 *   1. Everything but the flags under `lock` belongs to the supervisor's thread.
 *   2. `ended` is set by proc's thread under `lock`; the record is used again only after the
 *      supervisor's thread has released the child.
 *   3. A death is told to the registry before the next worker starts, so that it finds the job.
 *   4. One more child takes pulls, beside the others and without memory of the limit: a pull waits
 *      for the network, and training does not wait for it. It ends by itself when none is left.
 *   5. A child claims only what it was granted, and a grant follows the job's memory being taken
 *      out of the limit: nothing is loaded into what a job is about to use. */
#include "api/supervise.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/memory.h"
#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/thread.h"
#include "registry/checkpoints.h"
#include "registry/claims.h"
#include "registry/jobs.h"

enum { ENV_MAX = 16, ENV_BYTES = FS_PATH_BYTES_MAX + 64, BACK_OFF_MS = 500 };

struct worker_child {
    struct supervisor *supervisor;
    bool pulls; /* its lane */
    bool alive;
    struct proc proc;
    struct frame_conn conn;
    int64_t started_ns, due_ns; /* due: when the next may start */
    int young_deaths;           /* in a row */
    char granted[UUID_BYTES];   /* the job it was last told to take */
    int64_t granted_ns;
    /* under lock */
    bool ended;
    struct proc_exit how;
};

struct supervisor {
    const struct settings *settings;
    const char *program;
    struct registry *registry;
    struct infer *infer;
    char need_id[UUID_BYTES]; /* the job whose need is known; "" = none */
    uint64_t need_bytes;
    char waiting_id[UUID_BYTES]; /* the head of the queue, since waiting_ns; "" = none waits */
    int64_t waiting_ns;
    pthread_t thread;
    struct job_watch watch;
    int64_t watched_ns;
    int64_t expire_ns; /* when to look for old checkpoints; 0 = at once */
    int n;             /* with the one for pulls, the last */
    struct worker_child children[SUPERVISE_WORKERS_MAX + 1];
    char env[ENV_MAX][ENV_BYTES];
    const char *env_list[ENV_MAX + 1];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool poked, stopping, asked_to_stop;
    int n_alive;
};

/* --- starting --- */

/* The settings a worker minds, as the strongest kind of environment variable, so that it sees what
 * this process was told by flags, and no secret stands on a command line. */
static int make_env(struct supervisor *s, struct err *err)
{
    static const char *const shown[] = {
        "STORAGE_BASE_PATH",   "STORAGE_MODELS_PATH", "STORAGE_DATASETS_PATH",
        "MLX_MEMORY_LIMIT_GB", "LOG_FORMAT",          "ENGINE",
        "MLX_HUB_THREADS",     "MLX_HUB_ISA",         "MLX_DEFAULT_QUANTIZATION"};
    size_t n = 0;
    snprintf(s->env[n++], ENV_BYTES, "MLX_HUB_DATABASE_URL=%s", s->settings->database_url);
    snprintf(s->env[n++], ENV_BYTES, "MLX_HUB_LOG_LEVEL=%s", s->settings->log_level);
    snprintf(s->env[n++], ENV_BYTES, "MLX_HUB_HF_ENDPOINT=%s", s->settings->hf_endpoint);
    snprintf(s->env[n++], ENV_BYTES, "MLX_HUB_HF_TOKEN=%s", s->settings->hf_token);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        char value[FS_PATH_BYTES_MAX];
        const int row = setting_find(shown[i]);
        if (row < 0) {
            return err_set(err, ERR_INTERNAL, "no setting is called %s", shown[i]);
        }
        settings_show(s->settings, (size_t)row, value, sizeof value);
        snprintf(s->env[n++], ENV_BYTES, "MLX_HUB_%s=%s", shown[i], value);
    }
    for (size_t i = 0; i < n; i++) {
        s->env_list[i] = s->env[i];
    }
    s->env_list[n] = NULL;
    return 0;
}

/* On proc's thread. */
static void on_exit_of_child(void *ctx, struct proc_exit how)
{
    struct worker_child *child = ctx;
    struct supervisor *s = child->supervisor;
    pthread_mutex_lock(&s->lock);
    child->ended = true;
    child->how = how;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static int start_child(struct supervisor *s, struct worker_child *child, struct err *err)
{
    const char *const argv[] = {"mlx-hub", "worker", "--child", child->pulls ? "--pulls" : NULL,
                                NULL};
    const struct proc_options options = {.path = s->program,
                                         .argv = argv,
                                         .env = s->env_list,
                                         .on_exit = on_exit_of_child,
                                         .ctx = child};
    child->ended = false;
    int rc = proc_spawn(&child->proc, &options, err);
    if (rc != 0) {
        return rc;
    }
    rc = frame_conn_init(&child->conn, child->proc.control, err);
    if (rc != 0) {
        proc_release(&child->proc);
        return rc;
    }
    child->alive = true;
    child->granted[0] = '\0';
    child->started_ns = clock_monotonic_ns();
    log_event(LOG_INFO, "api", "worker_started", "pid=%d pulls=%d", (int)child->proc.pid,
              child->pulls);
    return 0;
}

static int64_t back_off_ns(int deaths)
{
    int64_t ms = deaths <= 1 ? 0 : BACK_OFF_MS;
    for (int i = 2; i < deaths && ms < SUPERVISE_BACK_OFF_MAX_MS; i++) {
        ms *= 2;
    }
    return (ms < SUPERVISE_BACK_OFF_MAX_MS ? ms : SUPERVISE_BACK_OFF_MAX_MS) * 1000000;
}

static void start_missing(struct supervisor *s, bool pulls)
{
    const int64_t now = clock_monotonic_ns();
    for (int i = 0; i < s->n; i++) {
        struct worker_child *child = &s->children[i];
        struct err err = {0};
        if (child->pulls != pulls || child->alive || now < child->due_ns) {
            continue;
        }
        if (start_child(s, child, &err) != 0) {
            child->due_ns = now + back_off_ns(++child->young_deaths + 1);
            log_event(LOG_ERROR, "api", "worker_not_started", "error=\"%s\"", err.message);
        }
    }
}

/* --- dying --- */

static void describe(struct proc_exit how, char out[64])
{
    snprintf(out, 64, "%s %d", how.signalled ? "killed by signal" : "ended with status", how.value);
}

/* The job that the dead worker held, if it held one, goes back to the queue or fails. */
static void tell_registry(struct supervisor *s, pid_t pid, const char *why)
{
    const struct job_filter running = {.status = "running", .limit = JOB_WATCHED_MAX};
    struct arena arena;
    struct job_row *rows = NULL;
    struct err err = {0};
    size_t count = 0;
    int64_t total = 0;
    enum job_status status;
    arena_init(&arena, 0);
    int rc = registry_list_jobs(s->registry, &running, &arena, &rows, &count, &total, &err);
    for (size_t i = 0; i < count && rc == 0; i++) {
        const struct job_row *row = &rows[i];
        if (row->worker_pid != (int64_t)pid || row->owner == NULL ||
            strcmp(row->owner, "child") != 0) {
            continue;
        }
        rc = registry_job_died(s->registry, row->id, row->fence, why, &status, &err);
        if (rc == 0) {
            log_event(LOG_WARNING, "api", "job_interrupted", "job=%s status=%s", row->id,
                      job_status_name(status));
        }
    }
    if (rc != 0) {
        log_event(LOG_ERROR, "api", "death_untold", "pid=%d error=\"%s\"", (int)pid, err.message);
    }
    arena_release(&arena);
}

static void bury(struct supervisor *s, struct worker_child *child, struct proc_exit how)
{
    char why[64];
    const pid_t pid = child->proc.pid;
    const int64_t now = clock_monotonic_ns();
    const bool young = now - child->started_ns < SUPERVISE_YOUNG_MS * 1000000LL;
    describe(how, why);
    frame_conn_release(&child->conn);
    proc_release(&child->proc);
    const bool wanted = !how.signalled && how.value == 0;
    child->alive = false;
    child->young_deaths = wanted ? 0 : young ? child->young_deaths + 1 : 1;
    child->due_ns = now + back_off_ns(child->young_deaths);
    log_event(wanted ? LOG_INFO : LOG_WARNING, "api", "worker_ended", "pid=%d how=\"%s\"", (int)pid,
              why);
    tell_registry(s, pid, why);
}

static void bury_dead(struct supervisor *s)
{
    for (int i = 0; i < s->n; i++) {
        struct worker_child *child = &s->children[i];
        pthread_mutex_lock(&s->lock);
        const bool ended = child->alive && child->ended;
        const struct proc_exit how = child->how;
        pthread_mutex_unlock(&s->lock);
        if (ended) {
            bury(s, child, how);
        }
    }
}

/* --- the thread --- */

/* What the queue needs of this thread. */
enum queue_state {
    QUEUE_EMPTY,
    QUEUE_RUNNING, /* a job runs: its end is looked for */
    QUEUE_READY,   /* the head may be claimed */
    QUEUE_WAITS    /* the head waits for memory */
};

/* The lane's running job, else the head of its queue. *found: there is one. */
static int first_job(struct supervisor *s, enum job_lane lane, struct arena *arena,
                     struct job_row *row, bool *found, struct err *err)
{
    static const char *const states[] = {"running", "queued"};
    int rc = 0;
    *found = false;
    for (size_t i = 0; i < 2 && rc == 0 && !*found; i++) {
        const struct job_filter filter = {
            .status = states[i], .lane = lane, .oldest_first = true, .limit = 1};
        struct job_row *rows = NULL;
        size_t count = 0;
        int64_t total = 0;
        rc = registry_list_jobs(s->registry, &filter, arena, &rows, &count, &total, err);
        if (rc == 0 && count > 0) {
            *row = rows[0];
            *found = true;
        }
    }
    return rc;
}

static bool is_work(struct supervisor *s)
{
    struct err err = {0};
    struct arena arena;
    struct job_row row;
    bool found = false;
    arena_init(&arena, 0);
    const int rc = first_job(s, LANE_ALL, &arena, &row, &found, &err);
    arena_release(&arena);
    return rc == 0 && found;
}

/* Tells children of the lane that are alive to take this job; again after a while, should it not
 * have been taken. */
static void grant(struct supervisor *s, bool pulls, const char *id)
{
    const int64_t now = clock_monotonic_ns();
    for (int i = 0; i < s->n; i++) {
        struct worker_child *child = &s->children[i];
        struct err err = {0};
        if (child->pulls != pulls || !child->alive ||
            (strcmp(child->granted, id) == 0 &&
             now - child->granted_ns < SUPERVISE_GRANT_MS * 1000000LL)) {
            continue;
        }
        (void)snprintf(child->granted, sizeof child->granted, "%s", id);
        child->granted_ns = now;
        if (frame_send(&child->conn, 'W', id, strlen(id), 0, &err) != 0) {
            log_event(LOG_DEBUG, "api", "grant_unsent", "error=\"%s\"", err.message);
        }
    }
}

/* A child that hangs would keep its place for ever: its death makes room for another. */
static void end_silent(struct supervisor *s, int64_t pid)
{
    for (int i = 0; i < s->n; i++) {
        if (s->children[i].alive && (int64_t)s->children[i].proc.pid == pid) {
            log_event(LOG_WARNING, "api", "worker_killed", "pid=%d why=silent", (int)pid);
            proc_kill(&s->children[i].proc, SIGKILL);
        }
    }
}

/* True when a job was taken from a dead or silent worker. */
static bool watch_heartbeats(struct supervisor *s)
{
    struct err err = {0};
    int given_up = 0;
    const int64_t now = clock_monotonic_ns();
    if (now - s->watched_ns < SUPERVISE_WATCH_MS * 1000000LL) {
        return false;
    }
    s->watched_ns = now;
    if (registry_watch_jobs(s->registry, &s->watch, now, &given_up, &err) != 0) {
        log_event(LOG_WARNING, "api", "watch_failed", "error=\"%s\"", err.message);
        return false;
    }
    for (int i = 0; i < s->watch.n_silent; i++) {
        end_silent(s, s->watch.silent_pid[i]);
    }
    return given_up > 0;
}

static void expire_checkpoints(struct supervisor *s)
{
    struct err err = {0};
    const int64_t now = clock_monotonic_ns();
    if (now < s->expire_ns) {
        return;
    }
    s->expire_ns = now + SUPERVISE_EXPIRE_MS * 1000000LL;
    if (registry_expire_checkpoints(s->registry, s->settings->checkpoint_days, clock_wall_us(),
                                    NULL, &err) != 0) {
        log_event(LOG_WARNING, "api", "checkpoints_unread", "error=\"%s\"", err.message);
    }
}

/* What a job needs; asked once. */
static uint64_t need_of(struct supervisor *s, const struct job_row *row)
{
    if (strcmp(s->need_id, row->id) != 0) {
        struct infer_memory memory;
        const struct memory_asker asker = {s->program, s->settings->threads};
        infer_memory(s->infer, &memory);
        s->need_bytes = memory_of_job(s->registry, &asker, row);
        /* What reads weights that no model here could be of goes on; any other job says itself
         * that it cannot fit, where it would hold the queue up for ever. */
        if (s->need_bytes > memory.bytes_max) {
            s->need_bytes = memory.bytes_max;
        }
        (void)snprintf(s->need_id, sizeof s->need_id, "%s", row->id);
    }
    return s->need_bytes;
}

/* Whether the head of the queue has waited for busy models as long as it must. */
static bool is_out_of_patience(struct supervisor *s, const char *id)
{
    const int64_t now = clock_monotonic_ns(), patience = s->settings->job_patience_ms;
    if (strcmp(s->waiting_id, id) != 0) {
        (void)snprintf(s->waiting_id, sizeof s->waiting_id, "%s", id);
        s->waiting_ns = now;
    }
    return patience >= 0 && now - s->waiting_ns >= patience * 1000000;
}

/* Memory for the head of the queue; it is told for what it waits when that has changed. */
static int admit(struct supervisor *s, const struct job_row *row, enum queue_state *state,
                 struct err *err)
{
    char text[MEMORY_TEXT_BYTES];
    const bool may =
        memory_take(s->infer, row->id, need_of(s, row), is_out_of_patience(s, row->id), text);
    *state = may ? QUEUE_READY : QUEUE_WAITS;
    if (may ? row->waiting_for == NULL
            : row->waiting_for != NULL && strcmp(text, row->waiting_for) == 0) {
        return 0;
    }
    return registry_job_waiting(s->registry, row->id, may ? NULL : text, err);
}

/* A worker of another host has that host's memory. */
static bool is_here(const struct job_row *row)
{
    char host[256] = "";
    return row->worker_host == NULL || gethostname(host, sizeof host) != 0 ||
           strncmp(host, row->worker_host, sizeof host) == 0;
}

/* Keeps the ledger: what the running job holds, or the head of the queue is about to. */
static enum queue_state settle_queue(struct supervisor *s)
{
    struct err err = {0};
    struct arena arena;
    struct job_row row;
    bool found = false;
    enum queue_state state = QUEUE_EMPTY;
    arena_init(&arena, 0);
    int rc = first_job(s, LANE_WORK, &arena, &row, &found, &err);
    if (rc == 0 && !found) {
        infer_give_back(s->infer, NULL);
    } else if (rc == 0 && row.status == JOB_RUNNING) {
        infer_hold(s->infer, row.id, is_here(&row) ? need_of(s, &row) : 0);
        s->waiting_id[0] = '\0';
        state = QUEUE_RUNNING;
    } else if (rc == 0) {
        rc = admit(s, &row, &state, &err);
    }
    if (rc == 0 && state == QUEUE_READY) {
        start_missing(s, false);
        grant(s, false, row.id);
    }
    if (rc != 0) {
        state = QUEUE_WAITS;
        log_event(LOG_WARNING, "api", "queue_unread", "error=\"%s\"", err.message);
    }
    arena_release(&arena);
    return state;
}

static enum queue_state settle_pulls(struct supervisor *s)
{
    struct err err = {0};
    struct arena arena;
    struct job_row row;
    bool found = false;
    enum queue_state state = QUEUE_EMPTY;
    arena_init(&arena, 0);
    if (first_job(s, LANE_PULLS, &arena, &row, &found, &err) != 0) {
        state = QUEUE_WAITS;
        log_event(LOG_WARNING, "api", "pulls_unread", "error=\"%s\"", err.message);
    } else if (found) {
        state = row.status == JOB_RUNNING ? QUEUE_RUNNING : QUEUE_READY;
    }
    if (state == QUEUE_READY) {
        start_missing(s, true);
        grant(s, true, row.id);
    }
    arena_release(&arena);
    return state;
}

/* When to look again: at the heartbeats, at queues that are not empty, at the time of a child that
 * a job waits for. */
static int64_t next_due_ns(const struct supervisor *s, enum queue_state work,
                           enum queue_state pulls)
{
    int64_t due = s->watched_ns + SUPERVISE_WATCH_MS * 1000000LL;
    if (work != QUEUE_EMPTY || pulls != QUEUE_EMPTY) {
        const bool waits = work == QUEUE_WAITS && pulls == QUEUE_EMPTY;
        const int64_t ms = waits ? SUPERVISE_MEMORY_MS : SUPERVISE_BUSY_MS;
        const int64_t look = clock_monotonic_ns() + ms * 1000000LL;
        due = look < due ? look : due;
    }
    for (int i = 0; i < s->n; i++) {
        const enum queue_state state = s->children[i].pulls ? pulls : work;
        if (state == QUEUE_READY && !s->children[i].alive && s->children[i].due_ns < due) {
            due = s->children[i].due_ns;
        }
    }
    return due;
}

/* Until something is signalled or due. Lock held. */
static void wait_until(struct supervisor *s, int64_t due_ns)
{
    const int64_t left = due_ns - clock_monotonic_ns();
    struct timespec until;
    if (left <= 0) {
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += left / 1000000000;
    until.tv_nsec += left % 1000000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&s->changed, &s->lock, &until);
}

static bool any_news(struct supervisor *s)
{
    bool news = s->poked || s->stopping || s->asked_to_stop;
    int alive = 0;
    for (int i = 0; i < s->n; i++) {
        const bool lives = s->children[i].alive && !s->children[i].ended;
        news = news || (s->children[i].alive && s->children[i].ended);
        alive += lives && !s->children[i].pulls;
    }
    s->n_alive = alive;
    return news;
}

/* Workers were asked to end: waits for them, then ends them. */
static void wind_down(struct supervisor *s)
{
    const int64_t until = clock_monotonic_ns() + SUPERVISE_STOP_MS * 1000000LL;
    for (int i = 0; i < s->n; i++) {
        if (s->children[i].alive) {
            proc_kill(&s->children[i].proc, SIGTERM);
        }
    }
    for (int i = 0; i < s->n; i++) {
        struct worker_child *child = &s->children[i];
        struct proc_exit how = {true, SIGKILL};
        struct err err = {0};
        if (!child->alive) {
            continue;
        }
        const int64_t left = (until - clock_monotonic_ns()) / 1000000;
        if (proc_wait(&child->proc, left > 0 ? (int)left : 0, &how, &err) != 0) {
            log_event(LOG_WARNING, "api", "worker_killed", "pid=%d", (int)child->proc.pid);
            proc_kill(&child->proc, SIGKILL);
        }
        bury(s, child, how);
    }
}

static void *supervisor_main(void *ctx)
{
    struct supervisor *s = ctx;
    bool wanted = is_work(s);
    for (;;) {
        bury_dead(s);
        wanted = watch_heartbeats(s) || wanted;
        expire_checkpoints(s);
        const enum queue_state work = wanted && s->n > 1 ? settle_queue(s) : QUEUE_EMPTY;
        const enum queue_state pulls = wanted ? settle_pulls(s) : QUEUE_EMPTY;
        pthread_mutex_lock(&s->lock);
        if (!any_news(s)) {
            wait_until(s, next_due_ns(s, work, pulls));
        }
        const bool stop = s->asked_to_stop || s->stopping;
        const bool poked = s->poked;
        s->poked = false;
        pthread_mutex_unlock(&s->lock);
        if (stop) {
            wind_down(s);
            return NULL;
        }
        wanted = wanted || poked;
    }
}

int supervisor_new(struct supervisor **out, const struct settings *settings, const char *program,
                   int n_workers, struct registry *registry, struct infer *infer, struct err *err)
{
    struct supervisor *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return mem_err(err, sizeof *s);
    }
    s->settings = settings;
    s->program = program;
    s->registry = registry;
    s->infer = infer;
    s->n = (n_workers < SUPERVISE_WORKERS_MAX ? n_workers : SUPERVISE_WORKERS_MAX) + 1;
    s->children[s->n - 1].pulls = true;
    s->watched_ns = clock_monotonic_ns();
    for (int i = 0; i < s->n; i++) {
        s->children[i].supervisor = s;
    }
    int rc = make_env(s, err);
    if (rc == 0) {
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->changed, NULL);
        const int failed = thread_start(&s->thread, supervisor_main, s);
        if (failed != 0) {
            pthread_cond_destroy(&s->changed);
            pthread_mutex_destroy(&s->lock);
            rc = err_set_errno(err, failed, "no thread could be started");
        }
    }
    if (rc != 0) {
        mem_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

static void signal_thread(struct supervisor *s, bool *flag)
{
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    *flag = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void supervisor_poke(struct supervisor *s)
{
    signal_thread(s, s != NULL ? &s->poked : NULL);
}

void supervisor_ask_to_stop(struct supervisor *s)
{
    signal_thread(s, s != NULL ? &s->asked_to_stop : NULL);
}

int supervisor_alive(struct supervisor *s)
{
    if (s == NULL) {
        return 0;
    }
    pthread_mutex_lock(&s->lock);
    const int n = s->n_alive;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void supervisor_free(struct supervisor *s)
{
    if (s == NULL) {
        return;
    }
    signal_thread(s, &s->stopping);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}
