/* mlx-hub serve: the hub in the foreground, until a signal comes. */
#include "api/serve.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/commands.h"

/* An IPv6 address stands in brackets in a URL. */
static void print_up(const struct args *args, int port)
{
    const char *host = args->settings.host;
    const bool bare = strchr(host, ':') != NULL && host[0] != '[';
    if (args->json) {
        printf("{\"url\":\"http://%s%s%s:%d\",\"port\":%d}\n", bare ? "[" : "", host,
               bare ? "]" : "", port, port);
    } else {
        printf("mlx-hub is up at http://%s%s%s:%d (storage %s); Ctrl-C stops it\n", bare ? "[" : "",
               host, bare ? "]" : "", port, args->settings.storage_base_path);
    }
    fflush(stdout);
}

static int run(const struct args *args, struct err *err)
{
    const struct serve_options options = {.with_workers = true, .catch_signals = true};
    struct serve *serve = NULL;
    mem_share_heaps();
    if (serve_start(&serve, &args->settings, &options, err) != 0) {
        return EXIT_FAILED;
    }
    print_up(args, serve_port(serve));
    (void)serve_wait_for_signal(serve);
    serve_stop(serve, SERVE_DRAIN_MS);
    return EXIT_DONE;
}

const struct command command_serve = {
    .name = "serve",
    .summary = "Run the hub: HTTP, queue, workers and models",
    .usage = "[--host HOST] [--port PORT]        PORT 0: any that is free",
    .examples = "  mlx-hub serve\n"
                "  mlx-hub serve --port 9000 --storage-base-path /srv/hub\n"
                "  mlx-hub serve --port 0 --json        prints where it listens, as JSON\n",
    .logs = true,
    .run = run,
};
