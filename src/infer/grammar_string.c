/* Strings: lengths, patterns, and formats, which are patterns of ours. A format's pattern takes a
 * part of what the format allows: what is common, of a length that ends. */
#include <string.h>

#include "infer/grammar_json.h"
#include "infer/grammar_regex.h"

#define DATE                                                                                       \
    "[12]\\d{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|"         \
    "(?:0[13578]|1[02])-31)"
#define TIME                                                                                       \
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define BYTE  "(?:\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])"
#define LABEL "[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
#define HOST  LABEL "(?:\\." LABEL "){0,5}"
#define WORD  "[A-Za-z0-9_~-]{1,64}"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration", "^P(?:\\d{1,4}W|\\d{1,4}Y(?:\\d{1,2}M(?:\\d{1,2}D)?)?|\\d{1,4}M(?:\\d{1,2}D)?|"
                 "\\d{1,4}D(?:T\\d{1,4}H)?|T\\d{1,4}H(?:\\d{1,2}M(?:\\d{1,2}S)?)?|"
                 "T\\d{1,4}M(?:\\d{1,2}S)?|T\\d{1,4}S)$"},
    {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    {"ipv4", "^" BYTE "(?:\\." BYTE "){3}$"},
    {"ipv6", "^(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,3}$"},
    {"hostname", "^" HOST "$"},
    {"email", "^[A-Za-z0-9_+-]{1,30}(?:\\.[A-Za-z0-9_+-]{1,30})?@" LABEL "(?:\\." LABEL "){1,3}$"},
    {"uri", "^https?://" HOST "(?::[1-9]\\d{0,3})?(?:/" WORD "){0,8}/?(?:\\?" WORD "=" WORD ")?$"},
    {"uri-reference", "^(?:/" WORD "){1,8}$"},
    {"json-pointer", "^(?:/[A-Za-z0-9_-]{1,64}){0,16}$"},
    {"base64", "^(?:[A-Za-z0-9+/]{4}){0,40}(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}"
               "[AEIMQUYcgkosw048]=)?$"},
};

static const struct {
    const char *name, *same;
} synonyms[] = {{"uri", "url"},
                {"hostname", "idn-hostname"},
                {"email", "idn-email"},
                {"uri", "iri"},
                {"base64", "byte"}};

/* Any text has them: they tell what it is for. */
static const char *const free_formats[] = {"binary", "password", "path", "file-path",
                                           "directory-path"};

static bool is_free(const char *format)
{
    for (size_t i = 0; i < sizeof free_formats / sizeof free_formats[0]; i++) {
        if (strcmp(free_formats[i], format) == 0) {
            return true;
        }
    }
    return false;
}

static const char *format_pattern(const char *format)
{
    for (size_t i = 0; i < sizeof synonyms / sizeof synonyms[0]; i++) {
        format = strcmp(format, synonyms[i].same) == 0 ? synonyms[i].name : format;
    }
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(formats[i].name, format) == 0) {
            return formats[i].pattern;
        }
    }
    return NULL;
}

int string_rule(struct compiler *c, const json_t *schema, uint32_t *rule)
{
    const json_t *pattern = json_object_get(schema, "pattern");
    const json_t *format = json_object_get(schema, "format");
    const char *own = json_is_string(format) ? format_pattern(json_string_value(format)) : NULL;
    uint32_t inside = 0;
    int low;
    int high;
    int rc = schema_counts(c, schema, "minLength", "maxLength", &low, &high);
    if (rc != 0) {
        return rc;
    }
    if (json_is_string(format) && own == NULL && !is_free(json_string_value(format))) {
        return err_set(c->err, ERR_INVALID, "'format' \"%.60s\" in a schema is not supported",
                       json_string_value(format));
    }
    if (own != NULL && pattern != NULL) {
        return schema_refuse(c, "pattern beside format");
    }
    if (pattern != NULL && !json_is_string(pattern)) {
        return err_set(c->err, ERR_INVALID, "'pattern' in a schema must be a text");
    }
    if (pattern == NULL && own == NULL) {
        *rule = json_string_rule(c, low, high);
        return 0;
    }
    rc = own != NULL ? regex_rule(c, "format", own, strlen(own), low, high, &inside)
                     : regex_rule(c, "pattern", json_string_value(pattern),
                                  json_string_length(pattern), low, high, &inside);
    if (rc == 0) {
        *rule = rules_new(c->r);
        rules_begin(c->r, *rule);
        rules_text(c->r, "\"");
        rules_ref(c->r, inside);
        rules_text(c->r, "\"");
        rules_end(c->r);
    }
    return rc;
}
