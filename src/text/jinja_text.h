/* What the files of string methods share. A method is a builtin whose `in` is a string. */
#ifndef TEXT_JINJA_TEXT_H
#define TEXT_JINJA_TEXT_H

#include "text/jinja_eval.h"

#define METHOD(name)                                                                               \
    int name(struct jinja *j, struct jvalue in, const struct jvalue *p, const struct jargs *args,  \
             struct jvalue *out)

/* Fails for what is not a string. */
int text_need(struct jinja *j, struct jvalue v) MUST_CHECK;
/* An integer, or `fallback` for missing and none. */
int text_optional_int(struct jinja *j, struct jvalue v, int64_t fallback, int64_t *out) MUST_CHECK;
/* Bytes [from, to) of a string, markup if it is. */
struct jvalue text_part(struct jvalue text, size_t from, size_t to);

/* jinja_text_search.c */
METHOD(m_split);
METHOD(m_rsplit);
METHOD(m_splitlines);
METHOD(m_partition);
METHOD(m_rpartition);
METHOD(m_find);
METHOD(m_rfind);
METHOD(m_index);
METHOD(m_rindex);
METHOD(m_count);
METHOD(m_startswith);
METHOD(m_endswith);

#endif
