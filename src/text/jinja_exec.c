/* Runs statements: output goes to the scratch text, names to scopes.
 *
 * A block whose output is wanted as a value (set, filter, macro, call, recursive loop) opens a text
 * on top of the scratch and closes it when its body is done.
 */
#include <string.h>

#include "text/jinja_eval.h"
#include "text/template.h"

static int exec(struct jinja *j, struct frame *frame, const struct node *node, enum flow *flow);

/* Counts one call of a macro or recursive loop. */
int call_enter(struct jinja *j)
{
    if (j->calls >= TEMPLATE_DEPTH_MAX) {
        return jinja_fail(j, ERR_TOO_LARGE, "calls nested deeper than %d", TEMPLATE_DEPTH_MAX);
    }
    j->calls++;
    return 0;
}

int exec_body(struct jinja *j, struct frame *frame, const struct nodes *body, enum flow *flow)
{
    *flow = FLOW_ON;
    int rc = jinja_enter(j);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < body->n && rc == 0 && *flow == FLOW_ON; i++) {
        rc = exec(j, frame, body->at[i], flow);
    }
    jinja_leave(j);
    return rc;
}

/* Runs a body and gives its output. A break or continue in it drops the output. */
int exec_capture(struct jinja *j, struct frame *frame, const struct nodes *body, enum flow *flow,
                 struct jvalue *out)
{
    size_t mark = jtext_open(j);
    int rc = exec_body(j, frame, body, flow);
    return rc == 0 ? jtext_close(j, mark, out) : rc;
}

static int exec_output(struct jinja *j, struct frame *frame, const struct node *node)
{
    int rc = 0;
    for (uint32_t i = 0; i < node->as.items.n && rc == 0; i++) {
        struct jvalue value;
        rc = eval(j, frame, node->as.items.at[i], &value);
        if (rc == 0) {
            rc = jv_put_str(j, value);
        }
    }
    return rc == 0 ? jtext_check(j) : rc;
}

/* --- assignment ---------------------------------------------------------------------------- */
static int assign_namespace(struct jinja *j, struct frame *frame, const struct node *target,
                            struct jvalue value)
{
    struct node name = *target;
    struct jvalue space;
    name.kind = N_NAME;
    int rc = eval(j, frame, &name, &space);
    if (rc == 0 && space.type != J_NAMESPACE) {
        rc = jinja_fail(j, ERR_INVALID, "cannot assign attribute on non-namespace object");
    }
    if (rc == 0 && target->as.name.attribute[0] == '_') {
        rc = jinja_fail(j, ERR_INVALID, "a namespace can't have the attribute '%s'",
                        target->as.name.attribute);
    }
    return rc == 0 ? jdict_set(j, space.as.dict, jv_text(target->as.name.attribute), value) : rc;
}

static int assign_items(struct jinja *j, struct frame *frame, const struct node *target,
                        struct jvalue value)
{
    struct jvalue list;
    uint32_t wanted = target->as.items.n;
    int rc = jv_collect(j, value, J_LIST, &list);
    if (rc == 0 && list.as.list->n != wanted) {
        rc = list.as.list->n < wanted
                 ? jinja_fail(j, ERR_INVALID, "not enough values to unpack (expected %u, got %u)",
                              wanted, list.as.list->n)
                 : jinja_fail(j, ERR_INVALID, "too many values to unpack (expected %u)", wanted);
    }
    for (uint32_t i = 0; i < wanted && rc == 0; i++) {
        rc = assign(j, frame, target->as.items.at[i], list.as.list->items[i]);
    }
    return rc;
}

int assign(struct jinja *j, struct frame *frame, const struct node *target, struct jvalue value)
{
    switch (target->kind) {
    case N_NAME:
        return frame_set(j, frame, target->as.name.symbol, value);
    case N_NAMESPACE_REF:
        return assign_namespace(j, frame, target, value);
    default:
        return assign_items(j, frame, target, value);
    }
}

/* {% set %}: a namespace's attribute can't be set before its value is there. */
static int exec_set(struct jinja *j, struct frame *frame, const struct node *node)
{
    struct jvalue value;
    int rc = eval(j, frame, node->as.set.value, &value);
    j->line = node->line;
    return rc == 0 ? assign(j, frame, node->as.set.target, value) : rc;
}

/* Applies a filter, or filters over filters, whose innermost object is `text`. */
static int apply_filters(struct jinja *j, struct frame *frame, const struct node *filter,
                         struct jvalue text, struct jvalue *out)
{
    struct jargs args;
    int rc = jinja_enter(j);
    if (rc != 0) {
        return rc;
    }
    if (filter->as.apply.object != NULL) {
        rc = apply_filters(j, frame, filter->as.apply.object, text, &text);
    }
    if (rc == 0) {
        rc = eval_args(j, frame, &filter->as.apply.args, &args);
    }
    if (rc == 0 && filter->as.apply.which == NULL) {
        rc = jinja_fail(j, ERR_INVALID, "No filter named '%s' found.", filter->as.apply.name);
    }
    if (rc == 0) {
        rc = builtin_run(j, filter->as.apply.which, text, &args, out);
    }
    jinja_leave(j);
    return rc;
}

/* {% set x %}…{% endset %} and {% filter f %}…{% endfilter %}. */
static int exec_captured(struct jinja *j, struct frame *frame, const struct node *node,
                         enum flow *flow)
{
    struct frame *inner;
    struct jvalue text;
    int rc = frame_new(j, frame, &node->as.block.hidden, &inner);
    if (rc == 0) {
        rc = exec_capture(j, inner, &node->as.block.body, flow, &text);
    }
    if (rc != 0 || *flow != FLOW_ON) {
        return rc;
    }
    j->line = node->line;
    if (node->as.block.filter != NULL) {
        rc = apply_filters(j, inner, node->as.block.filter, text, &text);
    }
    if (rc == 0) {
        rc = node->kind == N_SET_BLOCK ? assign(j, frame, node->as.block.target, text)
                                       : jv_put_str(j, text);
    }
    return rc;
}

static int exec_with(struct jinja *j, struct frame *frame, const struct node *node, enum flow *flow)
{
    const struct nodes *targets = &node->as.block.targets;
    struct frame *inner;
    struct jvalue values;
    int rc = frame_new(j, frame, &node->as.block.hidden, &inner);
    if (rc == 0) {
        rc = jv_list(j, J_LIST, targets->n, &values);
    }
    for (uint32_t i = 0; i < targets->n && rc == 0; i++) {
        rc = eval(j, frame, node->as.block.values.at[i], &values.as.list->items[i]);
    }
    for (uint32_t i = 0; i < targets->n && rc == 0; i++) {
        rc = assign(j, inner, targets->at[i], values.as.list->items[i]);
    }
    return rc == 0 ? exec_body(j, inner, &node->as.block.body, flow) : rc;
}

static int exec_generation(struct jinja *j, struct frame *frame, const struct node *node)
{
    struct frame *inner;
    enum flow flow;
    int rc = frame_new(j, frame, &node->as.block.hidden, &inner);
    return rc == 0 ? exec_body(j, inner, &node->as.block.body, &flow) : rc;
}

static int exec_if(struct jinja *j, struct frame *frame, const struct node *node, enum flow *flow)
{
    for (uint32_t i = 0; i < node->as.branch.n_bodies; i++) {
        bool taken = i >= node->as.branch.tests.n;
        if (!taken) {
            struct jvalue test;
            int rc = eval(j, frame, node->as.branch.tests.at[i], &test);
            if (rc != 0) {
                return rc;
            }
            taken = jv_truth(test);
        }
        if (taken) {
            return exec_body(j, frame, &node->as.branch.bodies[i], flow);
        }
    }
    return 0;
}

static int exec(struct jinja *j, struct frame *frame, const struct node *node, enum flow *flow)
{
    j->line = node->line;
    switch (node->kind) {
    case N_OUTPUT:
        return exec_output(j, frame, node);
    case N_IF:
        return exec_if(j, frame, node, flow);
    case N_FOR:
        return exec_for(j, frame, node, flow);
    case N_SET:
        return exec_set(j, frame, node);
    case N_SET_BLOCK:
    case N_FILTER_BLOCK:
        return exec_captured(j, frame, node, flow);
    case N_MACRO:
        return exec_macro(j, frame, node);
    case N_CALL_BLOCK:
        return exec_call_block(j, frame, node);
    case N_WITH:
        return exec_with(j, frame, node, flow);
    case N_GENERATION:
        return exec_generation(j, frame, node);
    case N_BREAK:
        *flow = FLOW_BREAK;
        return 0;
    case N_CONTINUE:
        *flow = FLOW_CONTINUE;
        return 0;
    default:
        return jinja_fail(j, ERR_INTERNAL, "not a statement");
    }
}
