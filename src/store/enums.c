/* Words in the order of their enums. */
#include "store/enums.h"

#include <stddef.h>
#include <string.h>

static const char *const tasks[] = {"text-generation", "classification", "summarization",
                                    "question-answering", "chat"};
static const char *const versions[] = {"training", "ready", "archived", "failed"};
static const char *const statuses[] = {"queued", "running", "completed", "failed", "cancelled"};
static const char *const kinds[] = {"train", "evaluate", "reproduce", "export", "quantize", "pull"};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static bool find(const char *const *words, size_t n, const char *text, size_t *index)
{
    for (*index = 0; text && *index < n; (*index)++)
        if (strcmp(words[*index], text) == 0)
            return true;
    return false;
}

const char *task_type_name(enum task_type type)
{
    return tasks[type];
}

const char *version_status_name(enum version_status status)
{
    return versions[status];
}

const char *job_status_name(enum job_status status)
{
    return statuses[status];
}

const char *job_kind_name(enum job_kind kind)
{
    return kinds[kind];
}

bool task_type_parse(const char *text, enum task_type *out)
{
    size_t i;

    if (!find(tasks, COUNT(tasks), text, &i))
        return false;
    *out = (enum task_type)i;
    return true;
}

bool version_status_parse(const char *text, enum version_status *out)
{
    size_t i;

    if (!find(versions, COUNT(versions), text, &i))
        return false;
    *out = (enum version_status)i;
    return true;
}

bool job_status_parse(const char *text, enum job_status *out)
{
    size_t i;

    if (!find(statuses, COUNT(statuses), text, &i))
        return false;
    *out = (enum job_status)i;
    return true;
}

bool job_kind_parse(const char *text, enum job_kind *out)
{
    size_t i;

    if (!find(kinds, COUNT(kinds), text, &i))
        return false;
    *out = (enum job_kind)i;
    return true;
}

const char *task_type_choices(void)
{
    return "text-generation, classification, summarization, question-answering, chat";
}

const char *version_status_choices(void)
{
    return "training, ready, archived, failed";
}

const char *job_status_choices(void)
{
    return "queued, running, completed, failed, cancelled";
}

bool job_status_final(enum job_status status)
{
    return status == JOB_COMPLETED || status == JOB_FAILED || status == JOB_CANCELLED;
}
