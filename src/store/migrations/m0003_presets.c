/* Step 3: names that stand for a base with an adapter, texts and parameters of their own. */
#include "store/migrations_sql.h"

const char migration_0003_sql[] = "CREATE TABLE presets ("
                                  " name TEXT PRIMARY KEY,"
                                  " base_model TEXT NOT NULL,"
                                  " source TEXT NOT NULL,"
                                  " adapter_sha256 TEXT,"
                                  " adapter_scale DOUBLE PRECISION,"
                                  " adapter_bytes BIGINT NOT NULL,"
                                  " system TEXT,"
                                  " template TEXT,"
                                  " license TEXT NOT NULL,"
                                  " parameters TEXT NOT NULL,"
                                  " messages TEXT NOT NULL,"
                                  " digest TEXT NOT NULL,"
                                  " created_at TEXT NOT NULL);"

                                  "CREATE INDEX presets_base_model ON presets (base_model);"
                                  "CREATE INDEX presets_adapter ON presets (adapter_sha256);";
