#include "cli/commands.h"

static const struct command *const all[] = {
    &command_serve,         &command_import,   &command_pull,     &command_list,
    &command_model,         &command_dataset,  &command_train,    &command_job,
    &command_chat,          &command_generate, &command_eval,     &command_reproduce,
    &command_merge,         &command_export,   &command_quantize, &command_template,
    &command_tokenize,      &command_worker,   &command_db,       &command_config,
    &command_doctor,        &command_version,  &command_runner,   &command_inspect,
    &command_train_inspect,
};

const struct command *const *commands(size_t *n)
{
    *n = sizeof all / sizeof all[0];
    return all;
}
