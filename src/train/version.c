/* The version folder. Its files are written one by one into a folder aside, the checksums last;
 * then one rename publishes all. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/adapter_files.h"
#include "formats/checksums.h"
#include "train/adapter_config.h"
#include "train/folder.h"
#include "train/run.h"

#define MLX_ADAPTER "adapters.safetensors"

static const char *const files[] = {MANIFEST_ADAPTER, MLX_ADAPTER, ADAPTER_CONFIG_FILE,
                                    MANIFEST_FILE};
enum { FILES = sizeof files / sizeof files[0] };

/* The same file under a second name; a copy where the file system has no links. */
static int link_or_copy(const char *from, const char *to, struct err *err)
{
    return link(from, to) == 0 ? 0 : fs_copy_file(from, to, err);
}

static int write_files(const char *dir, struct engine_adapter *adapter, int n_layers,
                       struct manifest *manifest, char checksum[SHA256_HEX_BYTES], struct err *err)
{
    const struct adapter_layers layers = {.first = engine_adapter_lora(adapter)->first_layer,
                                          .n = n_layers};
    char path[FS_PATH_BYTES_MAX], second[FS_PATH_BYTES_MAX];
    int rc;
    if ((rc = fs_join(path, dir, MANIFEST_ADAPTER, err)) != 0 ||
        (rc = fs_join(second, dir, MLX_ADAPTER, err)) != 0 ||
        (rc = engine_adapter_save(adapter, path, err)) != 0 ||
        (rc = sha256_file_hex(path, checksum, err)) != 0 ||
        (rc = link_or_copy(path, second, err)) != 0 ||
        (rc = adapter_config_mlx(dir, manifest, &layers, err)) != 0) {
        return rc;
    }
    manifest->adapter_sha256 = checksum;
    rc = manifest_write(manifest, dir, err);
    return rc == 0 ? checksums_write(dir, files, FILES, err) : rc;
}

int version_publish(const char *dir, struct engine_adapter *adapter, int n_layers,
                    struct manifest *manifest, char checksum[SHA256_HEX_BYTES], struct err *err)
{
    struct folder folder;
    int rc = folder_open(&folder, dir, err);
    if (rc == 0) {
        rc = write_files(folder.temp, adapter, n_layers, manifest, checksum, err);
    }
    if (rc == 0) {
        rc = folder_publish(&folder, err);
    }
    folder_abandon(&folder);
    if (rc != 0) {
        err_prefix(err, "version %s could not be published", manifest->version);
    }
    return rc;
}
