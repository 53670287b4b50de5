/* Evaluates expressions: one function per kind of node, each a few lines over the operators.
 *
 * Every eval counts a step and a level of depth, so neither a large tree nor a deep one escapes the
 * limits. Names are looked up from the innermost scope out; the outermost is an array by symbol.
 */
#include "text/jinja_eval.h"

#include <string.h>

/* --- scopes -------------------------------------------------------------------------------- */
int frame_set(struct jinja *j, struct frame *frame, uint32_t symbol, struct jvalue value)
{
    if (frame == NULL) {
        j->root[symbol] = value;
        return 0;
    }
    for (uint32_t i = 0; i < frame->n; i++) {
        if (frame->vars[i].symbol == symbol) {
            frame->vars[i].value = value;
            return 0;
        }
    }
    if (frame->n == frame->cap) {
        uint32_t cap = frame->cap == 0 ? 4 : 2 * frame->cap;
        struct variable *vars = jinja_alloc(j, cap, sizeof *vars);
        if (vars == NULL) {
            return j->failed;
        }
        if (frame->n > 0) {
            memcpy(vars, frame->vars, frame->n * sizeof *vars);
        }
        frame->vars = vars;
        frame->cap = cap;
    }
    frame->vars[frame->n++] = (struct variable){.symbol = symbol, .value = value};
    return 0;
}

int frame_again(struct jinja *j, struct frame *frame, const struct symbols *hidden)
{
    int rc = 0;
    frame->n = 0;
    for (uint32_t i = 0; i < hidden->n && rc == 0; i++) {
        rc = frame_set(j, frame, hidden->at[i], jv_missing());
    }
    return rc;
}

int frame_new(struct jinja *j, struct frame *outer, const struct symbols *hidden,
              struct frame **out)
{
    *out = jinja_alloc(j, 1, sizeof **out);
    if (*out == NULL) {
        return j->failed;
    }
    (*out)->outer = outer;
    return frame_again(j, *out, hidden);
}

static struct jvalue lookup(const struct jinja *j, const struct frame *frame,
                            const struct node *name)
{
    struct jvalue value = j->root[name->as.name.symbol];
    for (; frame != NULL; frame = frame->outer) {
        for (uint32_t i = 0; i < frame->n; i++) {
            if (frame->vars[i].symbol == name->as.name.symbol) {
                value = frame->vars[i].value;
                goto found;
            }
        }
    }
found:
    if (jv_is(value, J_MISSING)) {
        return (struct jvalue){.type = J_UNDEFINED, .flag = JF_NAME, .as.text = name->as.name.text};
    }
    return value;
}

/* --- kinds of nodes ------------------------------------------------------------------------ */
static int eval_items(struct jinja *j, struct frame *frame, const struct nodes *nodes,
                      enum jtype type, struct jvalue *out)
{
    int rc = jv_list(j, type, nodes->n, out);
    for (uint32_t i = 0; i < nodes->n && rc == 0; i++) {
        rc = eval(j, frame, nodes->at[i], &out->as.list->items[i]);
    }
    return rc;
}

static int eval_dict(struct jinja *j, struct frame *frame, const struct node *node,
                     struct jvalue *out)
{
    const struct nodes *keys = &node->as.dict.keys;
    int rc = jv_dict(j, keys->n, out);
    for (uint32_t i = 0; i < keys->n && rc == 0; i++) {
        struct jvalue key;
        struct jvalue value;
        rc = eval(j, frame, keys->at[i], &key);
        if (rc == 0) {
            rc = eval(j, frame, node->as.dict.values.at[i], &value);
        }
        if (rc == 0) {
            rc = jdict_set(j, out->as.dict, key, value);
        }
    }
    return rc;
}

static int eval_slice(struct jinja *j, struct frame *frame, const struct node *node,
                      struct jvalue *out)
{
    const struct node *const parts[3] = {node->as.slice.start, node->as.slice.stop,
                                         node->as.slice.step};
    struct jvalue object;
    struct jvalue part[3];
    int rc = eval(j, frame, node->as.slice.object, &object);
    for (int i = 0; i < 3 && rc == 0; i++) {
        part[i] = jv_none();
        rc = parts[i] == NULL ? 0 : eval(j, frame, parts[i], &part[i]);
    }
    return rc == 0 ? jv_slice(j, object, part, out) : rc;
}

static int eval_arithmetic(struct jinja *j, struct frame *frame, const struct node *node,
                           struct jvalue *out)
{
    int rc = eval(j, frame, node->as.chain.first, out);
    for (uint32_t i = 0; i < node->as.chain.rest.n && rc == 0; i++) {
        struct jvalue right;
        rc = eval(j, frame, node->as.chain.rest.at[i], &right);
        if (rc == 0) {
            rc = jv_arithmetic(j, (enum token_kind)node->as.chain.ops[i], *out, right, out);
        }
    }
    return rc;
}

static int compare(struct jinja *j, enum jinja_op op, struct jvalue a, struct jvalue b, bool *out)
{
    int rc;
    switch (op) {
    case OP_EQ:
    case OP_NE:
        rc = jv_equal(j, a, b, out);
        *out = *out == (op == OP_EQ);
        return rc;
    case OP_IN:
    case OP_NOT_IN:
        rc = jv_contains(j, b, a, out);
        *out = *out == (op == OP_IN);
        return rc;
    case OP_GT:
        return jv_compare(j, JC_GT, a, b, out);
    case OP_GE:
        return jv_compare(j, JC_GE, a, b, out);
    case OP_LT:
        return jv_compare(j, JC_LT, a, b, out);
    case OP_LE:
        break;
    }
    return jv_compare(j, JC_LE, a, b, out);
}

/* a < b < c compares neighbours and stops at the first that does not hold. */
static int eval_compare(struct jinja *j, struct frame *frame, const struct node *node,
                        struct jvalue *out)
{
    struct jvalue left;
    bool holds = true;
    int rc = eval(j, frame, node->as.chain.first, &left);
    for (uint32_t i = 0; i < node->as.chain.rest.n && rc == 0 && holds; i++) {
        struct jvalue right;
        rc = eval(j, frame, node->as.chain.rest.at[i], &right);
        if (rc == 0) {
            rc = compare(j, (enum jinja_op)node->as.chain.ops[i], left, right, &holds);
        }
        left = right;
    }
    *out = jv_bool(holds);
    return rc;
}

/* `and` gives the first false operand, `or` the first true one, else the last. */
static int eval_logic(struct jinja *j, struct frame *frame, const struct node *node,
                      struct jvalue *out)
{
    bool stop_at = node->kind == N_OR;
    int rc = 0;
    for (uint32_t i = 0; i < node->as.items.n && rc == 0; i++) {
        rc = eval(j, frame, node->as.items.at[i], out);
        if (rc == 0 && jv_truth(*out) == stop_at) {
            break;
        }
    }
    return rc;
}

/* a ~ b puts the texts of both together. */
static int eval_concat(struct jinja *j, struct frame *frame, const struct node *node,
                       struct jvalue *out)
{
    int rc = 0;
    *out = jv_string("", 0);
    for (uint32_t i = 0; i < node->as.items.n && rc == 0; i++) {
        struct jvalue part;
        rc = eval(j, frame, node->as.items.at[i], &part);
        if (rc == 0) {
            rc = jv_to_string(j, part, &part);
        }
        if (rc == 0) {
            rc = jv_string_concat(j, *out, part, out);
        }
    }
    return rc;
}

static int eval_condition(struct jinja *j, struct frame *frame, const struct node *node,
                          struct jvalue *out)
{
    struct jvalue test;
    int rc = eval(j, frame, node->as.condition.test, &test);
    if (rc != 0) {
        return rc;
    }
    if (jv_truth(test)) {
        return eval(j, frame, node->as.condition.then, out);
    }
    if (node->as.condition.otherwise != NULL) {
        return eval(j, frame, node->as.condition.otherwise, out);
    }
    *out = jv_undefined("the inline if-expression evaluated to false and no else section was "
                        "defined.");
    return 0;
}

/* --- calls --------------------------------------------------------------------------------- */
/* Makes room in `out` for what *args and **kwargs add. */
static int widen(struct jinja *j, struct jargs *out, uint32_t positional, uint32_t keywords)
{
    struct jvalue *at = jinja_alloc(j, (size_t)out->n + positional, sizeof *at);
    struct jkeyword *names =
        at == NULL ? NULL : jinja_alloc(j, (size_t)out->n_keywords + keywords, sizeof *names);
    if (names == NULL) {
        return j->failed;
    }
    if (out->n > 0) {
        memcpy(at, out->at, out->n * sizeof *at);
    }
    if (out->n_keywords > 0) {
        memcpy(names, out->keywords, out->n_keywords * sizeof *names);
    }
    out->at = at;
    out->keywords = names;
    return 0;
}

static int eval_star(struct jinja *j, struct frame *frame, const struct node *node,
                     struct jargs *out)
{
    struct jvalue value;
    int rc = eval(j, frame, node, &value);
    if (rc == 0) {
        rc = jv_collect(j, value, J_LIST, &value);
    }
    if (rc == 0) {
        rc = widen(j, out, value.as.list->n, 0);
    }
    for (uint32_t i = 0; rc == 0 && i < value.as.list->n; i++) {
        out->at[out->n++] = value.as.list->items[i];
    }
    return rc;
}

static int eval_star_star(struct jinja *j, struct frame *frame, const struct node *node,
                          struct jargs *out)
{
    struct jvalue value;
    int rc = eval(j, frame, node, &value);
    if (rc == 0 && value.type != J_DICT) {
        rc = jinja_fail(j, ERR_INVALID, "argument after ** must be a mapping, not %s",
                        jv_type_name(&value));
    }
    if (rc == 0) {
        rc = widen(j, out, 0, value.as.dict->n);
    }
    for (uint32_t i = 0; rc == 0 && i < value.as.dict->n; i++) {
        struct jvalue name = value.as.dict->pairs[i].key;
        if (name.type != J_STRING) {
            return jinja_fail(j, ERR_INVALID, "keywords must be strings");
        }
        rc = jv_copy(j, name.as.text, name.len, &name);
        for (uint32_t k = 0; rc == 0 && k < out->n_keywords; k++) {
            if (strcmp(out->keywords[k].name, name.as.text) == 0) {
                rc = jinja_fail(j, ERR_INVALID, "got multiple values for keyword argument '%s'",
                                name.as.text);
            }
        }
        if (rc == 0) {
            out->keywords[out->n_keywords++] =
                (struct jkeyword){.name = name.as.text, .value = value.as.dict->pairs[i].value};
            rc = jinja_step(j);
        }
    }
    return rc;
}

int eval_args(struct jinja *j, struct frame *frame, const struct call_args *in, struct jargs *out)
{
    *out = (struct jargs){0};
    int rc = 0;
    if (in->positional.n > 0 || in->n_keywords > 0) {
        rc = widen(j, out, in->positional.n, in->n_keywords);
    }
    for (uint32_t i = 0; i < in->positional.n && rc == 0; i++) {
        rc = eval(j, frame, in->positional.at[i], &out->at[out->n]);
        out->n++;
    }
    for (uint32_t i = 0; i < in->n_keywords && rc == 0; i++) {
        out->keywords[i].name = in->keywords[i].name;
        rc = eval(j, frame, in->keywords[i].value, &out->keywords[i].value);
        out->n_keywords++;
    }
    if (rc == 0 && in->star != NULL) {
        rc = eval_star(j, frame, in->star, out);
    }
    if (rc == 0 && in->star_star != NULL) {
        rc = eval_star_star(j, frame, in->star_star, out);
    }
    return rc;
}

static int eval_call(struct jinja *j, struct frame *frame, const struct node *node,
                     struct jvalue *out)
{
    struct jvalue callee;
    struct jargs args;
    int rc = eval(j, frame, node->as.call.object, &callee);
    if (rc == 0) {
        rc = eval_args(j, frame, &node->as.call.args, &args);
    }
    if (rc == 0) {
        j->line = node->line;
        rc = jinja_call(j, callee, &args, out);
    }
    return rc;
}

static int eval_apply(struct jinja *j, struct frame *frame, const struct node *node,
                      struct jvalue *out)
{
    struct jvalue object;
    struct jargs args;
    int rc = eval(j, frame, node->as.apply.object, &object);
    if (rc == 0) {
        rc = eval_args(j, frame, &node->as.apply.args, &args);
    }
    if (rc != 0) {
        return rc;
    }
    j->line = node->line;
    if (node->as.apply.which == NULL) {
        return jinja_fail(j, ERR_INVALID, "No %s named '%s' found.",
                          node->kind == N_FILTER ? "filter" : "test", node->as.apply.name);
    }
    return builtin_run(j, node->as.apply.which, object, &args, out);
}

static int eval_node(struct jinja *j, struct frame *frame, const struct node *node,
                     struct jvalue *out)
{
    struct jvalue a;
    struct jvalue b;
    int rc;
    switch (node->kind) {
    case N_CONST:
        *out = node->as.constant;
        return 0;
    case N_NAME:
        *out = lookup(j, frame, node);
        return 0;
    case N_LIST:
        return eval_items(j, frame, &node->as.items, J_LIST, out);
    case N_TUPLE:
        return eval_items(j, frame, &node->as.items, J_TUPLE, out);
    case N_DICT:
        return eval_dict(j, frame, node, out);
    case N_ATTRIBUTE:
        rc = eval(j, frame, node->as.attribute.object, &a);
        return rc == 0 ? jv_attribute(j, a, node->as.attribute.name, out) : rc;
    case N_ITEM:
        rc = eval(j, frame, node->as.item.object, &a);
        if (rc == 0) {
            rc = eval(j, frame, node->as.item.key, &b);
        }
        return rc == 0 ? jv_item(j, a, b, out) : rc;
    case N_SLICE:
        return eval_slice(j, frame, node, out);
    case N_CALL:
        return eval_call(j, frame, node, out);
    case N_FILTER:
    case N_TEST:
        return eval_apply(j, frame, node, out);
    case N_NOT:
        rc = eval(j, frame, node->as.operand, &a);
        *out = jv_bool(rc == 0 && !jv_truth(a));
        return rc;
    case N_NEGATE:
    case N_PLUS:
        rc = eval(j, frame, node->as.operand, &a);
        return rc == 0 ? jv_sign(j, node->kind == N_NEGATE, a, out) : rc;
    case N_ARITHMETIC:
        return eval_arithmetic(j, frame, node, out);
    case N_CONCAT:
        return eval_concat(j, frame, node, out);
    case N_COMPARE:
        return eval_compare(j, frame, node, out);
    case N_AND:
    case N_OR:
        return eval_logic(j, frame, node, out);
    case N_CONDITION:
        return eval_condition(j, frame, node, out);
    default:
        return jinja_fail(j, ERR_INTERNAL, "not an expression");
    }
}

int eval(struct jinja *j, struct frame *frame, const struct node *node, struct jvalue *out)
{
    *out = jv_none();
    int rc = jinja_enter(j);
    if (rc != 0) {
        return rc;
    }
    j->line = node->line;
    rc = eval_node(j, frame, node, out);
    jinja_leave(j);
    return rc;
}
