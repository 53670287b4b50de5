/* One line per member: schema, name, type. A type is string, uuid, time, integer, number, boolean,
 * object or the name of a schema; `?` behind it lets it be null, `[]` makes it a list. */
#include "api/openapi_schemas.h"

#include <stdio.h>
#include <string.h>

struct member {
    const char *schema, *name, *type;
};

static const struct member members[] = {
    {"Model", "id", "uuid"},
    {"Model", "name", "string"},
    {"Model", "task_type", "string"},
    {"Model", "description", "string?"},
    {"Model", "base_model", "string"},
    {"Model", "tags", "object"},
    {"Model", "mlflow_experiment_id", "string?"},
    {"Model", "created_at", "time"},
    {"Model", "updated_at", "time"},
    {"Model", "version_count", "integer"},
    {"ModelPage", "items", "Model[]"},
    {"ModelPage", "total", "integer"},
    {"ModelPage", "page", "integer"},
    {"ModelPage", "page_size", "integer"},
    {"History", "runs", "object[]"},
    {"History", "experiment_id", "string?"},
    {"LineageNode", "kind", "string"},
    {"LineageNode", "id", "string"},
    {"LineageNode", "label", "string"},
    {"LineageNode", "status", "string?"},
    {"LineageNode", "checksum", "string?"},
    {"LineageNode", "created_at", "time?"},
    {"LineageEdge", "from", "integer"},
    {"LineageEdge", "to", "integer"},
    {"Lineage", "nodes", "LineageNode[]"},
    {"Lineage", "edges", "LineageEdge[]"},
    {"Version", "id", "uuid"},
    {"Version", "model_id", "uuid"},
    {"Version", "version", "string"},
    {"Version", "number", "integer"},
    {"Version", "status", "string"},
    {"Version", "metrics", "object"},
    {"Version", "evaluations", "object[]"},
    {"Version", "notes", "string?"},
    {"Version", "artifact_path", "string?"},
    {"Version", "checksum", "string?"},
    {"Version", "mlflow_run_id", "string?"},
    {"Version", "aliases", "string[]"},
    {"Version", "created_at", "time"},
    {"Dataset", "id", "uuid"},
    {"Dataset", "name", "string"},
    {"Dataset", "path", "string"},
    {"Dataset", "checksum", "string"},
    {"Dataset", "schema_info", "object"},
    {"Dataset", "rows", "integer"},
    {"Dataset", "created_at", "time"},
    {"Verdict", "valid", "boolean"},
    {"Verdict", "expected", "string"},
    {"Verdict", "actual", "string?"},
    {"DatasetCheck", "rows", "integer"},
    {"DatasetCheck", "chat", "integer"},
    {"DatasetCheck", "completion", "integer"},
    {"DatasetCheck", "text", "integer"},
    {"DatasetCheck", "bytes", "integer"},
    {"DatasetCheck", "sha256", "string"},
    {"DatasetCheck", "base_model_template", "boolean"},
    {"DatasetCheck", "max_seq_length", "integer"},
    {"DatasetCheck", "mask_prompt", "boolean"},
    {"DatasetCheck", "tokens", "object"},
    {"DatasetCheck", "targets", "integer"},
    {"DatasetCheck", "histogram", "object[]"},
    {"DatasetCheck", "truncated", "integer"},
    {"DatasetCheck", "dropped", "integer"},
    {"DatasetCheck", "empty", "integer"},
    {"DatasetCheck", "last_turn_only", "integer"},
    {"DatasetCheck", "duplicate_of", "object[]"},
    {"DatasetCheck", "duplicates", "integer"},
    {"DatasetCheck", "bad_rows", "integer"},
    {"DatasetCheck", "bad", "string[]"},
    {"DatasetCheck", "samples", "object[]"},
    {"Progress", "step", "integer"},
    {"Progress", "steps", "integer"},
    {"Progress", "epoch", "number?"},
    {"Progress", "loss", "number?"},
    {"Progress", "val_loss", "number?"},
    {"Progress", "learning_rate", "number?"},
    {"Progress", "tokens_per_second", "number?"},
    {"Progress", "memory_bytes", "integer"},
    {"Progress", "eta_seconds", "number?"},
    {"Progress", "bytes_per_second", "number?"},
    {"Job", "id", "uuid"},
    {"Job", "kind", "string"},
    {"Job", "model_id", "uuid?"},
    {"Job", "dataset_id", "uuid?"},
    {"Job", "model_version_id", "uuid?"},
    {"Job", "status", "string"},
    {"Job", "config", "object"},
    {"Job", "error_message", "string?"},
    {"Job", "waiting_for", "string?"},
    {"Job", "resumed_from", "uuid?"},
    {"Job", "created_at", "time"},
    {"Job", "started_at", "time?"},
    {"Job", "completed_at", "time?"},
    {"Job", "heartbeat_at", "time?"},
    {"Job", "progress", "Progress"},
    {"Job", "result", "object?"},
    {"Series", "job_id", "uuid"},
    {"Series", "series", "object"},
    {"Series", "next_after_step", "integer?"},
    {"BaseModel", "id", "string"},
    {"BaseModel", "format", "string"},
    {"BaseModel", "architecture", "string"},
    {"BaseModel", "parameters", "integer"},
    {"BaseModel", "quantization", "string"},
    {"BaseModel", "context_length", "integer?"},
    {"BaseModel", "bytes", "integer"},
    {"BaseModel", "sha256", "string"},
    {"BaseModel", "source", "string"},
    {"BaseModel", "memory_bytes", "integer"},
    {"BaseModel", "fits", "boolean"},
    {"BaseModel", "created_at", "time"},
    {"FoundModel", "id", "string"},
    {"FoundModel", "downloads", "integer"},
    {"FoundModel", "likes", "integer"},
    {"FoundModel", "gguf", "boolean"},
    {"FoundModel", "safetensors", "boolean"},
    {"FoundModel", "mlx", "boolean"},
    {"FoundModel", "gated", "boolean"},
    {"FoundModel", "updated_at", "time?"},
    {"FoundModel", "pulled", "boolean"},
    {"Generation", "text", "string"},
    {"Generation", "model_id", "string"},
    {"Generation", "version_id", "uuid?"},
    {"Generation", "tokens_generated", "integer"},
    {"Generation", "time_to_first_token", "number"},
    {"Generation", "total_time", "number"},
    {"Generation", "tokens_per_second", "number"},
    {"Generation", "seed", "integer"},
    {"Generation", "engine", "string"},
    {"Generation", "numerics_version", "integer"},
    {"LoadedModel", "key", "string"},
    {"LoadedModel", "base_model", "string"},
    {"LoadedModel", "pid", "integer"},
    {"LoadedModel", "memory_gb", "number"},
    {"LoadedModel", "kv_memory_gb", "number"},
    {"LoadedModel", "active_requests", "integer"},
    {"LoadedModel", "loaded_at", "time?"},
    {"LoadedModel", "last_used_at", "time?"},
    {"Cache", "cached_models", "integer"},
    {"Cache", "max_models", "integer"},
    {"Cache", "total_memory_gb", "number"},
    {"Cache", "max_memory_gb", "number"},
    {"Cache", "models", "LoadedModel[]"},
    {"Tokens", "tokens", "integer[]"},
    {"Content", "content", "string"},
    {"Prompt", "prompt", "string"},
    {"Health", "status", "string"},
    {"Health", "name", "string"},
    {"Health", "version", "string"},
    {"Health", "uptime_seconds", "number"},
    {"Setting", "name", "string"},
    {"Setting", "value", "string"},
    {"Setting", "source", "string"},
    {"Setting", "default", "string"},
    {"Setting", "allowed", "string"},
    {"Setting", "help", "string"},
    {"Error", "detail", "string"},
    {"ValidationError", "detail", "object[]"},
};

enum { MEMBERS = sizeof members / sizeof members[0], TYPE_BYTES = 64 };

void openapi_ref(struct json_out *out, const char *name)
{
    char ref[128];
    snprintf(ref, sizeof ref, "#/components/schemas/%s", name);
    json_out_object(out);
    json_out_kv_string(out, "$ref", ref);
    json_out_object_end(out);
}

static void put_plain(struct json_out *out, const char *type, bool nullable)
{
    const bool uuid = strcmp(type, "uuid") == 0;
    const bool time = strcmp(type, "time") == 0;
    json_out_object(out);
    json_out_key(out, "type");
    if (nullable) {
        json_out_array(out);
    }
    json_out_string(out, uuid || time ? "string" : type);
    if (nullable) {
        json_out_string(out, "null");
        json_out_array_end(out);
    }
    if (uuid || time) {
        json_out_kv_string(out, "format", uuid ? "uuid" : "date-time");
    }
    json_out_object_end(out);
}

static void put_type(struct json_out *out, const char *text)
{
    char type[TYPE_BYTES];
    const size_t n = strcspn(text, "?[");
    snprintf(type, sizeof type, "%.*s", (int)n, text);
    const bool list = text[n] == '[';
    if (list) {
        json_out_object(out);
        json_out_kv_string(out, "type", "array");
        json_out_key(out, "items");
    }
    if (type[0] >= 'A' && type[0] <= 'Z') {
        openapi_ref(out, type);
    } else {
        put_plain(out, type, text[n] == '?');
    }
    if (list) {
        json_out_object_end(out);
    }
}

void openapi_schemas(struct json_out *out)
{
    for (size_t i = 0; i < MEMBERS;) {
        const char *schema = members[i].schema;
        const size_t first = i;
        json_out_key(out, schema);
        json_out_object(out);
        json_out_kv_string(out, "type", "object");
        json_out_key(out, "properties");
        json_out_object(out);
        for (; i < MEMBERS && strcmp(members[i].schema, schema) == 0; i++) {
            json_out_key(out, members[i].name);
            put_type(out, members[i].type);
        }
        json_out_object_end(out);
        json_out_key(out, "required");
        json_out_array(out);
        for (size_t k = first; k < i; k++) {
            json_out_string(out, members[k].name);
        }
        json_out_array_end(out);
        json_out_object_end(out);
    }
}
