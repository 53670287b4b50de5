/* Macros and call blocks. A macro sees the scope it was defined in as it is when the macro runs; a
 * call block hands its body to a macro as `caller`. Arguments bind as in jinja2: positions first,
 * then names, then defaults, which are evaluated in the macro's own scope at each call. */
#include <string.h>

#include "text/jinja_eval.h"

/* Takes the keyword `name` out of `args`; missing when it is not there. */
static struct jvalue take_keyword(struct jargs *args, const char *name)
{
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (strcmp(args->keywords[i].name, name) == 0) {
            struct jvalue value = args->keywords[i].value;
            memmove(&args->keywords[i], &args->keywords[i + 1],
                    (args->n_keywords - i - 1) * sizeof *args->keywords);
            args->n_keywords--;
            return value;
        }
    }
    return jv_missing();
}

static int bind_params(struct jinja *j, const struct macro_def *def, struct frame *frame,
                       struct jargs *args)
{
    uint32_t n = def->params.n;
    int rc = 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        const struct node *param = def->params.at[i];
        struct jvalue value = i < args->n ? args->at[i] : take_keyword(args, param->as.name.text);
        if (jv_is(value, J_MISSING) && i + def->defaults.n >= n) {
            rc = eval(j, frame, def->defaults.at[i + def->defaults.n - n], &value);
        } else if (jv_is(value, J_MISSING)) {
            rc = jv_printf(j, &value, "parameter '%s' was not provided", param->as.name.text);
            value.type = J_UNDEFINED;
            value.flag = JF_HINT;
            value.len = 0;
        }
        if (rc == 0) {
            rc = frame_set(j, frame, param->as.name.symbol, value);
        }
    }
    return rc;
}

static int bind_caller(struct jinja *j, const struct macro_def *def, struct frame *frame,
                       struct jargs *args)
{
    bool declared = false;
    for (uint32_t i = 0; i < def->params.n; i++) {
        declared = declared || def->params.at[i]->as.name.symbol == def->caller_symbol;
    }
    if (!def->wants_caller || declared) {
        return 0;
    }
    struct jvalue caller = take_keyword(args, "caller");
    if (jv_is(caller, J_MISSING) || jv_is(caller, J_NONE)) {
        caller = jv_undefined("No caller defined");
    }
    return frame_set(j, frame, def->caller_symbol, caller);
}

/* What is left over goes to kwargs and varargs where the body reads them, else it is an error. */
static int bind_rest(struct jinja *j, const struct macro_def *def, struct frame *frame,
                     const struct jargs *args)
{
    const char *name = def->name == NULL ? "caller" : def->name;
    uint32_t n = def->params.n;
    struct jvalue value;
    int rc = 0;
    if (def->wants_kwargs) {
        rc = jv_dict(j, args->n_keywords, &value);
        for (uint32_t i = 0; i < args->n_keywords && rc == 0; i++) {
            rc = jdict_set(j, value.as.dict, jv_text(args->keywords[i].name),
                           args->keywords[i].value);
        }
        if (rc == 0) {
            rc = frame_set(j, frame, def->kwargs_symbol, value);
        }
    } else if (args->n_keywords > 0) {
        rc = jinja_fail(j, ERR_INVALID, "macro '%s' takes no keyword argument '%s'", name,
                        args->keywords[0].name);
    }
    if (rc == 0 && def->wants_varargs) {
        rc = jv_list(j, J_TUPLE, args->n > n ? args->n - n : 0, &value);
        for (uint32_t i = n; i < args->n && rc == 0; i++) {
            value.as.list->items[i - n] = args->at[i];
        }
        if (rc == 0) {
            rc = frame_set(j, frame, def->varargs_symbol, value);
        }
    } else if (rc == 0 && args->n > n) {
        rc = jinja_fail(j, ERR_INVALID, "macro '%s' takes not more than %u argument(s)", name, n);
    }
    return rc;
}

int macro_call(struct jinja *j, const struct jmacro *macro, const struct jargs *args,
               struct jvalue *out)
{
    struct frame *frame;
    struct jargs rest = *args;
    enum flow flow;
    int rc = call_enter(j);
    if (rc != 0) {
        return rc;
    }
    rc = frame_new(j, macro->frame, &macro->def->hidden, &frame);
    if (rc == 0 && args->n_keywords > 0) {
        rest.keywords = jinja_alloc(j, args->n_keywords, sizeof *rest.keywords);
        if (rest.keywords == NULL) {
            rc = j->failed;
        } else {
            memcpy(rest.keywords, args->keywords, args->n_keywords * sizeof *rest.keywords);
        }
    }
    if (rc == 0) {
        rc = bind_params(j, macro->def, frame, &rest);
    }
    if (rc == 0) {
        rc = bind_caller(j, macro->def, frame, &rest);
    }
    if (rc == 0) {
        rc = bind_rest(j, macro->def, frame, &rest);
    }
    if (rc == 0) {
        rc = exec_capture(j, frame, &macro->def->body, &flow, out);
    }
    j->calls--;
    return rc;
}

static int macro_new(struct jinja *j, struct frame *frame, const struct macro_def *def,
                     struct jvalue *out)
{
    struct jmacro *macro = jinja_alloc(j, 1, sizeof *macro);
    if (macro == NULL) {
        return j->failed;
    }
    macro->def = def;
    macro->frame = frame;
    *out = (struct jvalue){.type = J_MACRO, .as.macro = macro};
    return 0;
}

int exec_macro(struct jinja *j, struct frame *frame, const struct node *node)
{
    struct jvalue macro;
    int rc = macro_new(j, frame, node->as.macro, &macro);
    return rc == 0 ? frame_set(j, frame, node->as.macro->symbol, macro) : rc;
}

int exec_call_block(struct jinja *j, struct frame *frame, const struct node *node)
{
    const struct node *call = node->as.call_block.call;
    struct jvalue callee;
    struct jvalue caller;
    struct jvalue text;
    struct jargs args;
    int rc = macro_new(j, frame, node->as.call_block.body, &caller);
    if (rc == 0) {
        rc = eval(j, frame, call->as.call.object, &callee);
    }
    if (rc == 0) {
        rc = eval_args(j, frame, &call->as.call.args, &args);
    }
    struct jkeyword *keywords =
        rc != 0 ? NULL : jinja_alloc(j, (size_t)args.n_keywords + 1, sizeof *keywords);
    if (keywords == NULL) {
        return j->failed;
    }
    if (args.n_keywords > 0) {
        memcpy(keywords, args.keywords, args.n_keywords * sizeof *keywords);
    }
    keywords[args.n_keywords++] = (struct jkeyword){.name = "caller", .value = caller};
    args.keywords = keywords;
    j->line = node->line;
    rc = jinja_call(j, callee, &args, &text);
    return rc == 0 ? jv_put_str(j, text) : rc;
}
