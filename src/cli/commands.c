#include "cli/commands.h"

static const struct command *const all[] = {
    &command_worker, &command_config, &command_version, &command_runner, &command_inspect,
};

const struct command *const *commands(size_t *n)
{
    *n = sizeof all / sizeof all[0];
    return all;
}
