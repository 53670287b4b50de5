#include "http/policy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"

/* Lower-cases text into out; false when it does not fit or holds what no host or origin may. */
static bool copy_lower(char out[POLICY_NAME_BYTES_MAX], const char *text, size_t n)
{
    if (n == 0 || n >= POLICY_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (!isalnum(c) && !strchr("-._:/[]%*", c))
            return false;
        out[i] = (char)tolower(c);
    }
    out[n] = 0;
    return true;
}

/* The host of "host", "host:port", "[::1]" or "[::1]:port", without brackets and last dot. */
static bool host_of(char out[POLICY_NAME_BYTES_MAX], const char *text)
{
    const char *end = text + strlen(text);
    const char *colon;

    if (*text == '[') {
        end = strchr(++text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
        colon = end[1] ? end + 1 : NULL;
    } else {
        colon = strchr(text, ':');
        end = colon ? colon : end;
    }
    if (colon && (!colon[1] || strlen(colon + 1) > 5 ||
                  strspn(colon + 1, "0123456789") != strlen(colon + 1)))
        return false;
    if (end > text + 1 && end[-1] == '.')
        end--;
    return copy_lower(out, text, (size_t)(end - text));
}

static int split(const char *list, char names[][POLICY_NAME_BYTES_MAX], size_t *n, const char *what,
                 struct err *err)
{
    for (const char *at = list ? list : ""; *at;) {
        size_t length = strcspn(at, ","), from = 0, to = length;
        while (from < to && at[from] == ' ')
            from++;
        while (to > from && at[to - 1] == ' ')
            to--;
        if (to > from) {
            if (*n == POLICY_NAMES_MAX)
                return err_set(err, ERR_INVALID, "%s: more than %d entries", what,
                               POLICY_NAMES_MAX);
            if (!copy_lower(names[*n], at + from, to - from))
                return err_set(err, ERR_INVALID, "%s: '%.*s' is not a name", what, (int)(to - from),
                               at + from);
            ++*n;
        }
        at += length + (at[length] == ',');
    }
    return 0;
}

int policy_init(struct policy *policy, const char *host, bool loopback, const char *allowed_hosts,
                const char *allowed_origins, const char *key, struct err *err)
{
    int rc;

    *policy = (struct policy){.any_address = !loopback};
    if (!copy_lower(policy->bound, host, strlen(host)))
        return err_set(err, ERR_INVALID, "HOST '%s' is not a host name", host);
    rc = split(allowed_hosts, policy->hosts, &policy->n_hosts, "ALLOWED_HOSTS", err);
    if (rc == 0)
        rc = split(allowed_origins, policy->origins, &policy->n_origins, "ALLOWED_ORIGINS", err);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < policy->n_hosts; i++) {
        char name[POLICY_NAME_BYTES_MAX];
        policy->any_host = policy->any_host || strcmp(policy->hosts[i], "*") == 0;
        if (strchr(policy->hosts[i], ':') && host_of(name, policy->hosts[i]))
            memcpy(policy->hosts[i], name, sizeof(name));
    }
    if (key && strlen(key) >= sizeof(policy->key))
        return err_set(err, ERR_INVALID, "API_KEY is longer than %zu bytes",
                       sizeof(policy->key) - 1);
    if (key)
        memcpy(policy->key, key, strlen(key) + 1);
    return 0;
}

static bool is_loopback_name(const char *name)
{
    size_t length = strlen(name);
    struct in_addr four;

    if (strcmp(name, "localhost") == 0 || strcmp(name, "::1") == 0)
        return true;
    if (length > 10 && strcmp(name + length - 10, ".localhost") == 0)
        return true;
    return inet_pton(AF_INET, name, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

static bool is_address(const char *name)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

int policy_check_host(const struct policy *policy, const struct http_request *request,
                      struct err *err)
{
    const char *value = NULL;
    char name[POLICY_NAME_BYTES_MAX];
    size_t n = 0;

    for (size_t i = 0; i < request->n_headers; i++)
        if (strcasecmp(request->headers[i].name, "Host") == 0) {
            value = request->headers[i].value;
            n++;
        }
    if (n != 1)
        return err_set(err, ERR_INVALID, "The request must have one Host header, it has %zu", n);
    if (policy->any_host)
        return 0;
    if (!host_of(name, value))
        return err_set(err, ERR_INVALID, "Malformed Host header");
    if (is_loopback_name(name) || strcmp(name, policy->bound) == 0 ||
        (policy->any_address && is_address(name)))
        return 0;
    for (size_t i = 0; i < policy->n_hosts; i++)
        if (strcmp(policy->hosts[i], name) == 0)
            return 0;
    return err_set(err, ERR_FORBIDDEN, "Host '%s' is not served here; add it to ALLOWED_HOSTS",
                   name);
}

const char *policy_cors_origin(const struct policy *policy, const struct http_request *request)
{
    const char *origin = http_header(request, "Origin");

    for (size_t i = 0; origin && i < policy->n_origins; i++)
        if (strcasecmp(policy->origins[i], origin) == 0)
            return origin;
    return NULL;
}

int policy_check_origin(const struct policy *policy, const struct http_request *request,
                        struct err *err)
{
    const char *origin = http_header(request, "Origin");
    const char *host = http_header(request, "Host");
    const char *authority;

    if (!origin)
        return 0;
    authority = strstr(origin, "://");
    if (authority && host && strcasecmp(authority + 3, host) == 0)
        return 0;
    if (policy_cors_origin(policy, request))
        return 0;
    return err_set(err, ERR_FORBIDDEN,
                   "Requests from this Origin are not allowed; add it to "
                   "ALLOWED_ORIGINS");
}

const char *policy_key(const struct http_request *request)
{
    const char *value = http_header(request, "Authorization");

    if (value && strncasecmp(value, "Bearer ", 7) == 0)
        return value + 7 + strspn(value + 7, " ");
    return http_header(request, "X-Api-Key");
}

int policy_check_key(const struct policy *policy, const struct http_request *request,
                     struct err *err)
{
    const char *key = policy_key(request);

    if (!policy->key[0] || (key && secret_equal(key, policy->key)))
        return 0;
    return err_set(err, ERR_UNAUTHORIZED, key ? "Wrong API key" : "An API key is required");
}
