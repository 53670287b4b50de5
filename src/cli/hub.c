/* A hub of our own listens on loopback, on whatever port is free, whatever HOST and PORT say. */
#include "cli/hub.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/serve.h"
#include "base/mem.h"
#include "cli/interrupt.h"
#include "cli/lookup.h"
#include "cli/print.h"

enum { OWN_DRAIN_MS = 2000 };

static int host_own(struct hub *hub, const struct args *args, bool with_workers, struct err *err)
{
    const struct serve_options options = {.with_workers = with_workers, .quiet = true};
    struct settings *settings = mem_alloc(sizeof *settings);
    if (settings == NULL) {
        return mem_err(err, sizeof *settings);
    }
    *settings = args->settings;
    settings->port = 0;
    settings->memory_limit_lowered = false; /* doctor tells; not every command */
    snprintf(settings->host, sizeof settings->host, "127.0.0.1");
    int rc = serve_start(&hub->own, settings, &options, err);
    if (rc == 0) {
        rc =
            remote_init(&hub->remote, settings->host, serve_port(hub->own), settings->api_key, err);
    }
    mem_free(settings);
    return rc;
}

/* What the running hub has for a setting, or NULL; the tree's. */
static const char *value_of(const json_t *config, const char *name)
{
    size_t i;
    const json_t *row;
    json_array_foreach(config, i, row)
    {
        if (strcmp(row_text(row, "name"), name) == 0) {
            return row_text(row, "value");
        }
    }
    return NULL;
}

static bool is_same_folder(const char *a, const char *b)
{
    char real_a[PATH_MAX], real_b[PATH_MAX];
    return strcmp(realpath(a, real_a) != NULL ? real_a : a,
                  realpath(b, real_b) != NULL ? real_b : b) == 0;
}

/* A hub that was started elsewhere keeps its things elsewhere: whoever has named a folder should
 * not look for them in that. A relative path is the server's, and tells nothing here. */
static void compare_storage(struct hub *hub, const struct settings *settings)
{
    static const char name[] = "STORAGE_BASE_PATH";
    const int setting = setting_find(name);
    struct err err = {0};
    json_t *config = NULL;
    if (setting < 0 || settings->source[setting] == SETTING_DEFAULT ||
        remote_call(&hub->remote, "GET", "/config", NULL, &config, &err) != 0) {
        return;
    }
    const char *value = value_of(config, name);
    if (value != NULL && value[0] == '/' && !is_same_folder(value, settings->storage_base_path)) {
        fprintf(stderr,
                "mlx-hub: warning: the running hub keeps its things in %s, not in %s as the "
                "settings here say\n",
                value, settings->storage_base_path);
    }
    json_decref(config);
}

int hub_open(struct hub *hub, const struct args *args, bool with_workers, struct err *err)
{
    bool found;
    memset(hub, 0, sizeof *hub);
    interrupt_catch();
    int rc = remote_find(&hub->remote, &args->settings, &found, err);
    if (rc == 0 && found) {
        compare_storage(hub, &args->settings);
    } else if (rc == 0) {
        rc = host_own(hub, args, with_workers, err);
    }
    if (rc != 0) {
        hub_close(hub);
    }
    return rc;
}

void hub_close(struct hub *hub)
{
    remote_release(&hub->remote);
    serve_stop(hub->own, OWN_DRAIN_MS);
    hub->own = NULL;
}

bool hub_is_remote(const struct hub *hub)
{
    return hub->own == NULL;
}
