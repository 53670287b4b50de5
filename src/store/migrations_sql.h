/* The scripts of store/migrations/, one per step. Private to store. */
#ifndef STORE_MIGRATIONS_SQL_H
#define STORE_MIGRATIONS_SQL_H

extern const char migration_0001_sql[];
extern const char migration_0002_sql[];
extern const char migration_0003_sql[];

#endif
