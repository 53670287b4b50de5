/* Every command of the program; each is defined in the file of its name (worker, runner and inspect
 * in children.c, chat in generate.c). */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/command.h"

extern const struct command command_chat;
extern const struct command command_config;
extern const struct command command_dataset;
extern const struct command command_db;
extern const struct command command_doctor;
extern const struct command command_eval;
extern const struct command command_export;
extern const struct command command_generate;
extern const struct command command_import;
extern const struct command command_pull;
extern const struct command command_inspect;
extern const struct command command_job;
extern const struct command command_list;
extern const struct command command_merge;
extern const struct command command_model;
extern const struct command command_quantize;
extern const struct command command_reproduce;
extern const struct command command_runner;
extern const struct command command_serve;
extern const struct command command_template;
extern const struct command command_tokenize;
extern const struct command command_train;
extern const struct command command_train_inspect;
extern const struct command command_version;
extern const struct command command_worker;

#endif
