/* What Python's getattr finds on a value, as far as the sandbox lets a template see it.
 *
 * Names that begin with an underscore and exist on every Python object, and methods that would
 * change a list or dict, give an undefined value that fails once it is used: that is how jinja2's
 * immutable sandbox refuses them. A method that Python has and this interpreter lacks is an error
 * that says so, never a silent "undefined".
 */
#include <string.h>

#include "text/jinja_eval.h"

static const char *const on_every_object[] = {"__class__",  "__delattr__",      "__dir__",
                                              "__doc__",    "__eq__",           "__format__",
                                              "__ge__",     "__getattribute__", "__gt__",
                                              "__hash__",   "__init__",         "__init_subclass__",
                                              "__le__",     "__lt__",           "__ne__",
                                              "__new__",    "__reduce__",       "__reduce_ex__",
                                              "__repr__",   "__setattr__",      "__sizeof__",
                                              "__str__",    "__subclasshook__", "__len__",
                                              "__iter__",   "__getitem__",      "__contains__",
                                              "__add__",    "__mul__",          "__dict__",
                                              "__module__", "__getattr__",      "__call__",
                                              NULL};

static const char *const list_mutators[] = {"append", "clear",  "pop",    "reverse", "insert",
                                            "sort",   "extend", "remove", NULL};
static const char *const dict_mutators[] = {"clear",      "pop",    "popitem",
                                            "setdefault", "update", NULL};
static const char *const text_missing[] = {"encode", "format_map", "maketrans", "translate", NULL};
static const char *const number_missing[] = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
    "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
    "numerator",        "real",      "to_bytes",   NULL};
static const char *const macro_missing[] = {"catch_kwargs", "catch_varargs", "explicit_caller",
                                            "caller",       "arguments",     NULL};

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (strcmp(name, *names) == 0) {
            return true;
        }
    }
    return false;
}

static int bind(struct jinja *j, struct jvalue self, const struct builtin *method,
                struct jvalue *out)
{
    if (method == NULL) {
        return 0;
    }
    struct jbound *bound = jinja_alloc(j, 1, sizeof *bound);
    if (bound == NULL) {
        return j->failed;
    }
    bound->self = self;
    bound->method = method;
    *out = (struct jvalue){.type = J_METHOD, .as.bound = bound};
    return 0;
}

static int unsafe(struct jinja *j, struct jvalue object, const char *name, struct jvalue *out)
{
    int rc = jv_printf(j, out, "access to attribute '%s' of '%s' object is unsafe.", name,
                       jv_type_name(&object));
    if (rc == 0) {
        out->type = J_UNDEFINED;
        out->flag = JF_UNSAFE;
        out->len = 0;
    }
    return rc;
}

static int not_here(struct jinja *j, struct jvalue object, const char *name)
{
    return jinja_fail(j, ERR_UNSUPPORTED, "%s.%s is not supported", jv_type_name(&object), name);
}

static int list_attribute(struct jinja *j, struct jvalue object, const char *name,
                          struct jvalue *out)
{
    bool tuple = object.type == J_TUPLE;
    if (!tuple && is_one_of(name, list_mutators)) {
        return unsafe(j, object, name, out);
    }
    if (tuple && object.flag == JF_GROUP && strcmp(name, "grouper") == 0) {
        *out = object.as.list->items[0];
        return 0;
    }
    if (tuple && object.flag == JF_GROUP && strcmp(name, "list") == 0) {
        *out = object.as.list->items[1];
        return 0;
    }
    return bind(j, object, list_method(name, tuple), out);
}

int python_attribute(struct jinja *j, struct jvalue object, const char *name, struct jvalue *out)
{
    *out = jv_missing();
    if (object.type == J_NAMESPACE) {
        *out = jdict_find(object.as.dict, name, strlen(name));
        return 0;
    }
    if (name[0] == '_') {
        return is_one_of(name, on_every_object) ? unsafe(j, object, name, out) : 0;
    }
    switch ((enum jtype)object.type) {
    case J_STRING:
        return is_one_of(name, text_missing) ? not_here(j, object, name)
                                             : bind(j, object, text_method(name), out);
    case J_DICT:
        return is_one_of(name, dict_mutators) ? unsafe(j, object, name, out)
                                              : bind(j, object, dict_method(name), out);
    case J_LIST:
    case J_TUPLE:
        return list_attribute(j, object, name, out);
    case J_LOOP:
        return loop_attribute(j, object.as.loop, name, out);
    case J_MACRO:
        if (strcmp(name, "name") == 0) {
            const char *text = object.as.macro->def->name;
            *out = text == NULL ? jv_none() : jv_text(text);
            return 0;
        }
        return is_one_of(name, macro_missing) ? not_here(j, object, name) : 0;
    case J_BOOL:
    case J_INT:
    case J_FLOAT:
        return is_one_of(name, number_missing) ? not_here(j, object, name) : 0;
    case J_RANGE:
        if (strcmp(name, "index") == 0 || strcmp(name, "count") == 0) {
            struct jvalue list;
            int rc = jv_collect(j, object, J_LIST, &list);
            return rc == 0 ? bind(j, list, list_method(name, true), out) : rc;
        }
        if (strcmp(name, "start") == 0 || strcmp(name, "stop") == 0 || strcmp(name, "step") == 0) {
            const struct jrange *r = object.as.range;
            *out = jv_int(name[2] == 'a' ? r->start : name[2] == 'o' ? r->stop : r->step);
        }
        return 0;
    default:
        return 0;
    }
}

/* --- the loop variable --------------------------------------------------------------------- */
static int undefined_item(struct jvalue item, const char *hint, struct jvalue *out)
{
    *out = jv_is(item, J_MISSING) ? jv_undefined(hint) : item;
    return 0;
}

static int loop_from_end(struct jinja *j, struct jloop *loop, int64_t back, struct jvalue *out)
{
    int64_t length = 0;
    int rc = loop_length(j, loop, &length);
    *out = jv_int(length - back);
    return rc;
}

int loop_attribute(struct jinja *j, struct jloop *loop, const char *name, struct jvalue *out)
{
    struct jvalue item = jv_missing();
    int rc;
    if (strcmp(name, "index") == 0 || strcmp(name, "index0") == 0) {
        *out = jv_int(loop->index0 + (name[5] == '\0'));
        return 0;
    }
    if (strcmp(name, "first") == 0) {
        *out = jv_bool(loop->index0 == 0);
        return 0;
    }
    if (strcmp(name, "last") == 0 || strcmp(name, "nextitem") == 0) {
        rc = loop_peek(j, loop, &item);
        *out = jv_bool(jv_is(item, J_MISSING));
        return rc == 0 && name[0] == 'n' ? undefined_item(item, "there is no next item", out) : rc;
    }
    if (strcmp(name, "previtem") == 0) {
        return undefined_item(loop->previous, "there is no previous item", out);
    }
    if (strcmp(name, "length") == 0) {
        return loop_from_end(j, loop, 0, out);
    }
    if (strcmp(name, "revindex") == 0) {
        return loop_from_end(j, loop, loop->index0, out);
    }
    if (strcmp(name, "revindex0") == 0) {
        return loop_from_end(j, loop, loop->index0 + 1, out);
    }
    if (strcmp(name, "depth") == 0 || strcmp(name, "depth0") == 0) {
        *out = jv_int(loop->depth0 + (name[5] == '\0'));
        return 0;
    }
    return bind(j, (struct jvalue){.type = J_LOOP, .as.loop = loop}, loop_method(name), out);
}
