/* Each getter looks once, checks the type, and only then writes. */
#include "formats/hf_fields.h"

#include <inttypes.h>

const json_t *hf_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int hf_wrong_type(const char *key, const char *wanted, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "\"%s\" is of the wrong type, expected %s", key, wanted);
}

int hf_u32(const json_t *object, const char *key, uint32_t *out, struct err *err)
{
    const json_t *value = hf_member(object, key);
    if (!value)
        return 0;
    if (!json_is_integer(value))
        return hf_wrong_type(key, "an integer", err);
    json_int_t number = json_integer_value(value);
    if (number < 0 || number > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "\"%s\" is %" JSON_INTEGER_FORMAT ", out of range", key,
                       number);
    *out = (uint32_t)number;
    return 0;
}

int hf_require_u32(const json_t *object, const char *key, uint32_t *out, struct err *err)
{
    if (!hf_member(object, key))
        return err_set(err, ERR_CORRUPT, "\"%s\" is missing", key);
    return hf_u32(object, key, out, err);
}

int hf_real(const json_t *object, const char *key, double *out, struct err *err)
{
    const json_t *value = hf_member(object, key);
    if (!value)
        return 0;
    if (!json_is_number(value))
        return hf_wrong_type(key, "a number", err);
    *out = json_number_value(value);
    return 0;
}

int hf_bool(const json_t *object, const char *key, bool *out, struct err *err)
{
    const json_t *value = hf_member(object, key);
    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return hf_wrong_type(key, "a bool", err);
    *out = json_is_true(value);
    return 0;
}

int hf_text(const json_t *object, const char *key, const char **out, struct err *err)
{
    const json_t *value = hf_member(object, key);
    if (!value)
        return 0;
    if (!json_is_string(value))
        return hf_wrong_type(key, "a string", err);
    *out = json_string_value(value);
    return 0;
}
