/* Step 2: what jobs that fetch tell about their speed. */
#include "store/migrations_sql.h"

const char migration_0002_sql[] =
    "ALTER TABLE training_jobs ADD COLUMN bytes_per_second DOUBLE PRECISION;";
