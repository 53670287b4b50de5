/* What a database must provide to stand behind db.h. Private to store.
 *
 * A driver holds no state of its own besides its connection and statement handles; db.c calls it
 * from one thread at a time per connection. Columns and parameters count from 0. Text returned by
 * column_text is valid until the next step or reset.
 */
#ifndef STORE_DB_DRIVER_H
#define STORE_DB_DRIVER_H

#include "store/db.h"

struct db_driver {
    const char *begin_write;
    const char *begin_read;
    int (*open)(void **conn, const char *target, struct err *err);
    void (*close)(void *conn);
    int (*script)(void *conn, const char *sql, struct err *err);
    int (*prepare)(void *conn, const char *sql, void **stmt, struct err *err);
    void (*finalize)(void *stmt);
    /* text NULL binds NULL */
    int (*bind_text)(void *conn, void *stmt, int index, const char *text, struct err *err);
    int (*bind_int)(void *conn, void *stmt, int index, int64_t value, struct err *err);
    int (*bind_real)(void *conn, void *stmt, int index, double value, struct err *err);
    int (*step)(void *conn, void *stmt, bool *row, enum db_violation *violation, struct err *err);
    int64_t (*changes)(void *conn); /* of the last statement */
    void (*reset)(void *stmt);
    bool (*is_null)(void *stmt, int column);
    const char *(*column_text)(void *stmt, int column, size_t *length); /* NULL: no memory */
    int64_t (*column_int)(void *stmt, int column);
    double (*column_real)(void *stmt, int column);
};

extern const struct db_driver db_sqlite;

#endif
