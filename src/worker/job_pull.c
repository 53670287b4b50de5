/* A pull: the model hub's list, a choice, fetching, one import.
 *
 *   list ─▶ choose ─▶ there already? ─▶ disk ─▶ fetch each ─▶ inspect ─▶ (quantise) ─▶ take in
 *
 * Files lie in cache/pull-<what>/ until they are taken in, by a rename; what is a digest of server,
 * id, commit and file, so whoever pulls the same again, be it this job after a crash or a new one,
 * goes on with what had come. Nothing is in the registry before all of it is whole and was read
 * once in a child. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "infer/inspect.h"
#include "registry/bases.h"
#include "registry/pulls.h"
#include "registry/repo_fetch.h"
#include "train/merge.h"
#include "worker/job_int.h"

enum { NAME_BYTES = 64, FACTS_BYTES_MAX = 1 << 20, KEY_DIGITS = 24, TOLD_FILES_MAX = 64 };

#define CHECKPOINT_BYTES (64LL << 20)
#define RATE_NS          1000000000LL

struct pulling {
    struct job_run *run;
    struct pull_config config;
    struct repo_server server;
    struct repo repo;
    struct repo_pick pick;
    const char *source; /* of the base's row, without what quantising adds */
    char folder[FS_PATH_BYTES_MAX];
    char quantised[FS_PATH_BYTES_MAX]; /* the folder made of it, or "" */
    struct base_row row;
    bool there; /* nothing was to be done */
    /* progress */
    int64_t came, checkpoint;   /* over the network; bytes when last recorded */
    int64_t rate_ns, rate_came; /* at the last look at the speed */
    double rate;                /* bytes a second, smoothed */
};

/* --- progress --- */

static void look_at_rate(struct pulling *p)
{
    struct job_progress *progress = &p->run->progress;
    const int64_t now = clock_monotonic_ns();
    const int64_t passed = now - p->rate_ns;
    if (passed < RATE_NS) {
        return;
    }
    const double rate = (double)(p->came - p->rate_came) * 1e9 / (double)passed;
    p->rate = p->rate > 0.0 ? 0.7 * p->rate + 0.3 * rate : rate;
    p->rate_ns = now;
    p->rate_came = p->came;
    progress->bytes_per_second = p->rate;
    progress->eta_seconds =
        p->rate > 0.0 ? (double)(progress->steps - progress->step) / p->rate : (double)NAN;
}

/* Each 64 MB count as getting on, so that a job that dies now and then is not given up. */
static void checkpoint(struct pulling *p, bool now)
{
    struct err err = {0};
    const int64_t step = p->run->progress.step;
    if (step <= p->checkpoint || (!now && step - p->checkpoint < CHECKPOINT_BYTES)) {
        return;
    }
    p->checkpoint = step;
    if (registry_job_checkpoint(p->run->registry, p->run->row->id, p->run->row->fence, step,
                                &err) == -ERR_CONFLICT) {
        p->run->lost = true;
    }
}

static int on_wait(void *ctx, struct err *err)
{
    struct pulling *p = ctx;
    look_at_rate(p);
    switch (job_hooks(p->run).poll(p->run)) {
    case TRAIN_GO_ON:
        return 0;
    case TRAIN_CHECKPOINT_AND_STOP:
        return err_set(err, ERR_CLOSED, "stopped while a model was pulled");
    default:
        return err_set(err, ERR_CANCELLED, "cancelled while a model was pulled");
    }
}

static bool is_cancelled(void *ctx)
{
    struct pulling *p = ctx;
    return job_hooks(p->run).poll(p->run) != TRAIN_GO_ON;
}

static void on_bytes(void *ctx, int64_t n, int64_t came)
{
    struct pulling *p = ctx;
    p->run->progress.step += n;
    p->came += came;
    checkpoint(p, false);
}

static void on_retry(void *ctx, const char *why)
{
    struct pulling *p = ctx;
    char line[ERR_MESSAGE_BYTES_MAX + 64];
    (void)snprintf(line, sizeof line, "trying again: %s", why);
    job_note(p->run, line);
}

/* --- what is to be pulled --- */

static int open_server(struct pulling *p, struct err *err)
{
    const struct settings *settings = p->run->settings;
    const int rc = repo_server_open(&p->server, settings->hf_endpoint, settings->hf_token,
                                    &p->run->arena, err);
    p->server.on_wait = on_wait;
    p->server.ctx = p;
    return rc;
}

/* Where the base came from, as its row says; equal sources mean equal content. */
static int name_source(struct pulling *p, struct err *err)
{
    char endpoint[1100];
    const char *file = p->pick.is_folder ? "" : p->pick.files[0]->path;
    settings_mask_url(p->server.endpoint, endpoint, sizeof endpoint);
    p->source = arena_printf(&p->run->arena, "%s/%s@%s%s%s", endpoint, p->repo.id, p->repo.commit,
                             file[0] != '\0' ? "/" : "", file);
    return p->source != NULL ? 0 : mem_err(err, 0);
}

static int name_folder_of_parts(struct pulling *p, struct err *err)
{
    char hex[SHA256_HEX_BYTES], name[NAME_BYTES];
    int rc = sha256_hex(p->source, strlen(p->source), hex, err);
    (void)snprintf(name, sizeof name, "pull-%.*s", KEY_DIGITS, hex);
    rc = rc == 0 ? storage_cache(registry_storage(p->run->registry), name, p->folder, err) : rc;
    return rc == 0 ? fs_mkdirs(p->folder, err) : rc;
}

/* What is known before anything is fetched: for whoever looks at the running job. */
static void tell_plan(struct pulling *p)
{
    struct err err = {0};
    struct buf text;
    struct json_out out;
    const struct repo_file *largest = p->pick.largest;
    buf_init(&text, JOB_RESULT_BYTES_MAX);
    json_out_init(&out, &text);
    json_out_object(&out);
    json_out_kv_string(&out, "kind", "pull");
    json_out_kv_string(&out, "id", p->repo.id);
    json_out_kv_string(&out, "commit", p->repo.commit);
    json_out_kv_string(&out, "as", p->config.as);
    json_out_kv_int(&out, "bytes", p->pick.bytes);
    json_out_kv_string(&out, "largest", largest->path);
    json_out_kv_string(&out, "largest_sha256", largest->sha256);
    json_out_object_end(&out);
    int rc = buf_check(&text, "the plan", &err);
    rc = rc == 0 ? registry_job_tell(p->run->registry, p->run->row->id, p->run->row->fence,
                                     text.data, &err)
                 : rc;
    if (rc != 0) {
        log_event(LOG_WARNING, "worker", "plan_untold", "error=\"%s\"", err.message);
    }
    buf_release(&text);
    job_report(p->run);
    char line[REPO_ID_BYTES + 160];
    (void)snprintf(line, sizeof line, "%s at %.12s: %zu files, %lld bytes", p->repo.id,
                   p->repo.commit, p->pick.n_files, (long long)p->pick.bytes);
    job_note(p->run, line);
}

static int plan(struct pulling *p, struct err *err)
{
    int rc = repo_list(&p->server, &p->config.name, &p->run->arena, &p->repo, err);
    rc = rc == 0 ? repo_choose(&p->repo, p->config.name.file, &p->run->arena, &p->pick, err) : rc;
    rc = rc == 0 ? name_source(p, err) : rc;
    if (rc == 0) {
        p->run->progress.steps = p->pick.bytes;
        tell_plan(p);
    }
    return rc;
}

/* --- what is there already --- */

static bool same_source(const char *have, const char *source)
{
    const size_t n = strlen(source);
    return have != NULL && strncmp(have, source, n) == 0 && (have[n] == '\0' || have[n] == ' ');
}

struct counting {
    size_t n;
};

static int count_file(void *ctx, const char *name, bool is_dir)
{
    struct counting *counting = ctx;
    (void)name;
    (void)is_dir;
    counting->n++;
    return 0;
}

/* Whether what lies at path is what would be fetched; reads it. */
static bool holds(struct pulling *p, const char *path)
{
    struct counting counting = {0};
    char file[FS_PATH_BYTES_MAX];
    struct err ignored = {0};
    if (!p->pick.is_folder) {
        return !fs_is_dir(path) && repo_file_is(p->pick.files[0], path);
    }
    if (!fs_is_dir(path) || fs_list_dir(path, count_file, &counting, &ignored) != 0 ||
        counting.n != p->pick.n_files) {
        return false;
    }
    for (size_t i = 0; i < p->pick.n_files; i++) {
        if (is_cancelled(p) || fs_join(file, path, p->pick.files[i]->name, &ignored) != 0 ||
            !repo_file_is(p->pick.files[i], file)) {
            return false;
        }
    }
    return true;
}

/* Of a row from the same source, as quantise() names it. */
static int quantised_bits(const struct pulling *p)
{
    const char *added = p->row.source + strlen(p->source);
    return strstr(added, " 4 bits when pulled)") != NULL   ? 4
           : strstr(added, " 8 bits when pulled)") != NULL ? 8
                                                           : 0;
}

/* The id has this content: in what was asked for, or in whatever when nothing was. */
static int check_bits(const struct pulling *p, struct err *err)
{
    const struct import_size any = {"", 0, 0};
    const char *asked = p->config.quantization;
    const int bits = same_source(p->row.source, p->source) ? quantised_bits(p) : 0;
    char have[NAME_BYTES] = "as it came (none)";
    if (asked == NULL || import_bits(p->run->settings, asked, &any) == bits) {
        return 0;
    }
    if (bits != 0) {
        (void)snprintf(have, sizeof have, "quantised to %d bits (%dbit)", bits, bits);
    }
    return err_set(err, ERR_CONFLICT,
                   "Base model '%s' is there already, %s, and '%s' was asked for: pull it under "
                   "another name (--as), or delete that one first",
                   p->config.as, have, asked);
}

static int other_content(const struct pulling *p, struct err *err)
{
    return err_set(err, ERR_CONFLICT,
                   "Base model '%s' is there already, with other content (from %s): pull this one "
                   "under another name (--as), or delete that one first",
                   p->config.as, p->row.source);
}

/* The row's weights are missing. Whether these can be the same, as far as their list tells. */
static bool can_come_back(const struct pulling *p)
{
    if (same_source(p->row.source, p->source)) {
        return true;
    }
    if (p->pick.is_folder) {
        return p->row.is_folder && p->row.bytes == p->pick.bytes;
    }
    const char *sha256 = p->pick.files[0]->sha256;
    return !p->row.is_folder && (sha256 == NULL || strcmp(p->row.sha256, sha256) == 0);
}

/* The id is taken: by this very content, or by another. */
static int look_for_id(struct pulling *p, struct err *err)
{
    struct err gone = {0};
    char path[FS_PATH_BYTES_MAX];
    int rc = registry_get_base(p->run->registry, p->config.as, &p->run->arena, &p->row, &gone);
    if (rc == -ERR_NOT_FOUND) {
        return 0;
    }
    if (rc != 0) {
        return err_set(err, gone.code, "%s", gone.message);
    }
    rc = registry_base_path(p->run->registry, p->config.as, &p->run->arena, &p->row, path, &gone);
    if (rc != 0) { /* its weights are missing: they come back by this */
        return can_come_back(p) ? check_bits(p, err) : other_content(p, err);
    }
    p->there = same_source(p->row.source, p->source) || holds(p, path);
    if (p->there) {
        p->run->progress.step = p->pick.bytes;
        return check_bits(p, err);
    }
    rc = on_wait(p, err); /* comparing ends when the job is to */
    return rc != 0 ? rc : other_content(p, err);
}

/* A GGUF that another id has already is not fetched a second time. *path "" when there is none. */
static int look_for_blob(struct pulling *p, char path[FS_PATH_BYTES_MAX], struct err *err)
{
    const struct repo_file *file = p->pick.files[0];
    path[0] = '\0';
    if (p->pick.is_folder || file->sha256 == NULL) {
        return 0;
    }
    const int rc = storage_blob(registry_storage(p->run->registry), file->sha256, path, err);
    if (rc == 0 && (!fs_exists(path) || fs_is_dir(path) || !repo_file_is(file, path))) {
        path[0] = '\0';
    }
    return rc;
}

/* --- fetching --- */

/* Removes what is neither a file of the pick nor a part of one. */
struct tidying {
    struct pulling *p;
    struct err *err;
};

static int tidy_entry(void *ctx, const char *name, bool is_dir)
{
    struct tidying *tidying = ctx;
    const struct repo_pick *pick = &tidying->p->pick;
    char path[FS_PATH_BYTES_MAX];
    for (size_t i = 0; i < pick->n_files && !is_dir; i++) {
        const size_t n = strlen(pick->files[i]->name);
        if (strncmp(name, pick->files[i]->name, n) == 0 &&
            (name[n] == '\0' || strcmp(name + n, ".part") == 0)) {
            return 0;
        }
    }
    const int rc = fs_join(path, tidying->p->folder, name, tidying->err);
    return rc == 0 ? fs_remove_tree(path, tidying->err) : rc;
}

static int check_disk(struct pulling *p, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int64_t need = p->pick.bytes;
    uint64_t free_bytes = 0;
    for (size_t i = 0; i < p->pick.n_files; i++) {
        const int rc = fs_join(path, p->folder, p->pick.files[i]->name, err);
        if (rc != 0) {
            return rc;
        }
        need -= repo_fetched(p->pick.files[i], path);
    }
    const int rc = fs_free_space(p->folder, &free_bytes, err);
    if (rc == 0 && (uint64_t)need > free_bytes) {
        return err_set(err, ERR_NOSPACE,
                       "'%s' needs %.2f GB more on the disk and %.2f GB are free there (%s)",
                       p->repo.id, (double)need / 1e9, (double)free_bytes / 1e9, p->folder);
    }
    return rc;
}

static int fetch(struct pulling *p, struct err *err)
{
    const struct repo_sink sink = {.on_bytes = on_bytes, .on_retry = on_retry};
    struct tidying tidying = {p, err};
    char path[FS_PATH_BYTES_MAX];
    int rc = name_folder_of_parts(p, err);
    rc = rc == 0 ? fs_list_dir(p->folder, tidy_entry, &tidying, err) : rc;
    rc = rc == 0 ? check_disk(p, err) : rc;
    p->run->progress.bytes_per_second = 0.0;
    p->rate_ns = clock_monotonic_ns();
    const int64_t began_ns = p->rate_ns;
    for (size_t i = 0; i < p->pick.n_files && rc == 0; i++) {
        const struct repo_file *file = p->pick.files[i];
        rc = fs_join(path, p->folder, file->name, err);
        rc = rc == 0 ? repo_fetch(&p->server, &p->repo, file, path, &sink, err) : rc;
        if (rc == 0) {
            char line[REPO_FILE_BYTES + 32];
            (void)snprintf(line, sizeof line, "fetched %s", file->path);
            job_note(p->run, line);
        }
        checkpoint(p, true);
    }
    const int64_t took_ns = clock_monotonic_ns() - began_ns;
    if (p->rate <= 0.0 && took_ns > 0) { /* too short to have been looked at */
        p->run->progress.bytes_per_second = (double)p->came * 1e9 / (double)took_ns;
    }
    job_report(p->run);
    return rc;
}

/* --- taking in --- */

struct found {
    struct buf text;
    json_t *tree;
};

static int inspect(struct found *found, const char *path, struct err *err)
{
    json_decref(found->tree);
    found->tree = NULL;
    buf_clear(&found->text);
    const int rc = inspect_model(NULL, path, &found->text, err);
    if (rc != 0) {
        return rc;
    }
    found->tree = json_parse(found->text.data, found->text.len, err);
    return found->tree != NULL ? 0 : -(int)err->code;
}

/* In this process, which shows that it lives and hears of a cancel meanwhile. */
static int write_quantised(struct pulling *p, const char *path, int bits, struct err *err)
{
    const struct settings *settings = p->run->settings;
    const struct train_hooks all = job_hooks(p->run);
    const struct train_hooks hooks = {.ctx = all.ctx, .note = all.note, .poll = all.poll};
    const struct merge_spec spec = {.base_id = p->config.as,
                                    .base_path = path,
                                    .dest = p->quantised,
                                    .format = MERGE_MLX,
                                    .type = MERGE_KEEP,
                                    .bits = bits,
                                    .threads = settings->threads,
                                    .isa = settings->isa};
    struct merge_result merged;
    const int rc = train_merge(&spec, &hooks, &merged, err);
    job_report(p->run); /* hears what came while the result was compared */
    return rc == 0 ? on_wait(p, err) : rc;
}

/* As an import does with weights that are plain and large, or as was asked. */
static int quantise(struct pulling *p, struct found *found, const char *path, struct err *err)
{
    const char *type = json_string_value(json_object_get(found->tree, "quantization"));
    const struct import_size size = {
        type != NULL ? type : "",
        (uint64_t)json_integer_value(json_object_get(found->tree, "bytes")),
        (uint64_t)json_integer_value(json_object_get(found->tree, "memory_bytes"))};
    const int bits = import_bits(p->run->settings, p->config.quantization, &size);
    if (bits == 0) {
        return 0;
    }
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "pulled-%.40s", p->run->row->id);
    int rc = storage_cache(registry_storage(p->run->registry), name, p->quantised, err);
    rc = rc == 0 ? fs_remove_tree(p->quantised, err) : rc;
    job_note(p->run, "quantising");
    rc = rc == 0 ? write_quantised(p, path, bits, err) : rc;
    p->source = arena_printf(&p->run->arena, "%s (%s, quantised to %d bits when pulled)", p->source,
                             size.type, bits);
    rc = rc == 0 && p->source == NULL ? mem_err(err, 0) : rc;
    return rc == 0 ? inspect(found, p->quantised, err) : rc;
}

static int take_in(struct pulling *p, const char *path, struct err *err)
{
    struct base_facts facts = {0};
    struct found found = {.tree = NULL};
    buf_init(&found.text, FACTS_BYTES_MAX);
    job_note(p->run, "reading what came");
    int rc = inspect(&found, path, err);
    rc = rc == 0 ? quantise(p, &found, path, err) : rc;
    rc = rc == 0 ? base_facts_read(found.tree, &facts, err) : rc;
    if (rc == 0) {
        facts.details = found.text.data;
        facts.source = p->source;
        rc =
            registry_take_base(p->run->registry, p->quantised[0] != '\0' ? p->quantised : path,
                               p->config.as, &facts, is_cancelled, p, &p->run->arena, &p->row, err);
        if (rc == -ERR_CANCELLED && !p->run->cancel && !p->run->lost) {
            err_clear(err);
            rc = err_set(err, ERR_CLOSED, "stopped while the base was taken in");
        }
    }
    json_decref(found.tree);
    buf_release(&found.text);
    return rc;
}

static int pull_files(struct pulling *p, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = look_for_id(p, err);
    if (rc != 0 || p->there) {
        return rc;
    }
    rc = look_for_blob(p, path, err);
    if (rc == 0 && path[0] != '\0') {
        p->run->progress.step = p->pick.bytes;
        return take_in(p, path, err);
    }
    rc = rc == 0 ? fetch(p, err) : rc;
    if (rc == 0) {
        rc = p->pick.is_folder ? fs_join(path, p->folder, "", err)
                               : fs_join(path, p->folder, p->pick.files[0]->name, err);
    }
    rc = rc == 0 ? take_in(p, p->pick.is_folder ? p->folder : path, err) : rc;
    return rc;
}

static void write_result(const struct pulling *p)
{
    struct json_out out;
    char now[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), now);
    json_out_init(&out, &p->run->result);
    json_out_object(&out);
    json_out_kv_string(&out, "kind", "pull");
    json_out_kv_string(&out, "job_id", p->run->row->id);
    json_out_kv_string(&out, "created_at", now);
    json_out_kv_string(&out, "id", p->repo.id);
    json_out_kv_string(&out, "commit", p->repo.commit);
    json_out_kv_string(&out, "as", p->row.id);
    json_out_kv_string(&out, "sha256", p->row.sha256);
    json_out_kv_int(&out, "bytes", p->pick.bytes);
    json_out_kv_int(&out, "fetched_bytes", p->came);
    json_out_kv_bool(&out, "was_there", p->there);
    json_out_kv_string(&out, "largest", p->pick.largest->path);
    json_out_kv_string(&out, "largest_sha256", p->pick.largest->sha256);
    json_out_object_end(&out);
}

/* What need not be kept: after a success both folders, after a failure the quantised one. */
static void clean_up(struct pulling *p, bool done)
{
    struct err ignored = {0};
    if (p->quantised[0] != '\0') {
        (void)!fs_remove_tree(p->quantised, &ignored);
    }
    if (done && p->folder[0] != '\0') {
        (void)!fs_remove_tree(p->folder, &ignored);
    }
}

/* A lost connection has had its tries: the job fails with what happened, it is not handed back. */
static int settle_cause(struct pulling *p, int rc, const struct err *why, struct err *err)
{
    const bool ours =
        rc == -ERR_CANCELLED || (rc == -ERR_CLOSED && atomic_load(p->run->stop) && !p->run->cancel);
    if (rc == 0) {
        return 0;
    }
    if (ours || rc == -ERR_NOSPACE || rc == -ERR_NOMEM) {
        return err_set(err, why->code, "%s", why->message);
    }
    const bool fetched_some =
        p->run->progress.step > 0 &&
        (rc == -ERR_UNAVAILABLE || rc == -ERR_TIMEOUT || rc == -ERR_CLOSED || rc == -ERR_IO);
    return err_set(
        err, why->code == ERR_CLOSED || why->code == ERR_IO ? ERR_UNAVAILABLE : why->code, "%s%s",
        why->message, fetched_some ? "; what has come is kept: the same pull goes on with it" : "");
}

int job_pull(struct job_run *run, struct err *err)
{
    struct pulling *p = arena_alloc(&run->arena, 1, sizeof *p);
    struct err why = {0};
    json_t *config = json_parse(run->row->config, strlen(run->row->config), err);
    if (p == NULL || config == NULL) {
        json_decref(config);
        return p == NULL ? mem_err(err, sizeof *p) : -(int)err->code;
    }
    memset(p, 0, sizeof *p);
    p->run = run;
    run->progress = (struct job_progress){.epoch = (double)NAN,
                                          .loss = (double)NAN,
                                          .val_loss = (double)NAN,
                                          .learning_rate = (double)NAN,
                                          .tokens_per_second = (double)NAN,
                                          .eta_seconds = (double)NAN};
    p->checkpoint = run->row->checkpoint_step;
    int rc = pull_config_read(config, &p->config, &why);
    rc = rc == 0 ? open_server(p, &why) : rc;
    rc = rc == 0 ? plan(p, &why) : rc;
    rc = rc == 0 ? pull_files(p, &why) : rc;
    if (rc == 0) {
        write_result(p);
        (void)snprintf(run->summary, sizeof run->summary, "pulled %.80s at %.12s as %.80s",
                       p->repo.id, p->repo.commit, p->row.id);
    }
    clean_up(p, rc == 0);
    repo_server_close(&p->server);
    json_decref(config);
    return settle_cause(p, rc, &why, err);
}
