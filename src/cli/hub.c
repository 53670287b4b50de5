/* A hub of our own listens on loopback, on whatever port is free, whatever HOST and PORT say. */
#include "cli/hub.h"

#include <stdio.h>
#include <string.h>

#include "api/serve.h"
#include "base/mem.h"
#include "cli/interrupt.h"

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

int hub_open(struct hub *hub, const struct args *args, bool with_workers, struct err *err)
{
    bool found;
    memset(hub, 0, sizeof *hub);
    interrupt_catch();
    int rc = remote_find(&hub->remote, &args->settings, &found, err);
    if (rc == 0 && !found) {
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
