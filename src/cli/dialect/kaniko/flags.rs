//! Kaniko's flags as they are typed.
//!
//! As pflag has it, a switch takes a value only behind an equals sign, a value may begin with a
//! dash, and of a flag given twice the later counts.

use clap::{ArgAction, Args};

/// A switch: `--flag`, `--flag=true`, `--flag=false`.
macro_rules! flags {
    (
        $(#[$struct_doc:meta])* pub struct $name:ident {
            switches { $($(#[$switch_doc:meta])* $switch:ident,)* }
            values { $($(#[$value_doc:meta])* $value:ident $(($($value_arg:tt)*))?,)* }
            lists { $($(#[$list_doc:meta])* $list:ident $(($($list_arg:tt)*))?,)* }
        }
    ) => {
        $(#[$struct_doc])*
        #[derive(Clone, Debug, Default, Args)]
        pub struct $name {
            $($(#[$switch_doc])*
            #[arg(
                long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
                value_name = "BOOL", value_parser = crate::literal::boolean
            )]
            pub $switch: Option<bool>,)*
            $($(#[$value_doc])*
            #[arg(long, value_name = "VALUE", allow_hyphen_values = true $(, $($value_arg)*)?)]
            pub $value: Option<String>,)*
            $($(#[$list_doc])*
            #[arg(long, value_name = "VALUE", allow_hyphen_values = true, action = ArgAction::Append $(, $($list_arg)*)?)]
            pub $list: Vec<String>,)*
        }
    };
}

flags! {
    /// Arguments of `gondola kaniko`, and of gondola when it is called `executor`.
    pub struct KanikoArgs {
        switches {
            /// Reuse results of earlier builds, and share them through --cache-repo; false reuses none
            cache,
            /// With --cache, share the results of COPY and ADD; false leaves them out
            cache_copy_layers,
            /// With --cache, share the results of RUN; false leaves them out
            cache_run_layers,
            /// Has no effect: memory does not grow with the layers
            compressed_caching,
            /// Has no effect: the build happens in folders of its own
            cleanup,
            /// Has no effect: the build happens in folders of its own
            pre_cleanup,
            /// Check the Dockerfile, and build nothing
            dryrun,
            /// Has no effect: builds need no container around them
            force,
            /// Has no effect: metadata is always kept
            force_build_metadata,
            /// Has no effect: /var/run belongs to the image
            ignore_var_run,
            /// Has no effect: the old name of --ignore-var-run
            whitelist_var_run,
            /// Push over plain http, or https with an unknown certificate
            insecure,
            /// Pull over plain http, or https with an unknown certificate
            insecure_pull,
            /// Has no effect: lines carry the time since the start
            log_timestamp,
            /// Has no effect: the build does not touch this file system
            materialize,
            /// Build the image, and do not push it
            no_push,
            /// Read from --cache-repo, and write nothing to it
            no_push_cache,
            /// For untrusted code: use and keep no cache that builds share, such as Go's or cache mounts (gondola's own flag)
            no_shared_caches,
            /// Has no effect: the build does not touch the context
            preserve_context,
            /// Succeed where a tag exists and the registry does not let it be moved
            push_ignore_immutable_tag_errors,
            /// Set all times in the image to 1970-01-01
            reproducible,
            /// Has no effect: every instruction has a layer of its own
            single_snapshot,
            /// Pull from the mirrors only, and never from the registry behind them
            skip_default_registry_fallback,
            /// Has no effect: the push itself finds out
            skip_push_permission_check,
            /// Push without checking certificates
            skip_tls_verify,
            /// Pull without checking certificates
            skip_tls_verify_pull,
            /// Has no effect: unused stages are never built
            skip_unused_stages,
            /// Has no effect: changes are read from the file system's own record
            use_new_run,
        }
        values {
            /// Bucket of the context, where --context is not given
            bucket(short = 'b'),
            /// Has no effect: base images are kept in the local store
            cache_dir,
            /// Repository through which results of steps are shared [default: DESTINATION/cache]
            cache_repo,
            /// Share Go caches with builds that give the same name, instead of those of the same CI ref or folder (gondola's own flag)
            cache_scope,
            /// Reuse shared results for this long, such as 6h [default: 336h]
            cache_ttl,
            /// Compression of new layers: gzip or zstd
            compression,
            /// Level of compression: 1-9 for gzip, 1-19 for zstd
            compression_level,
            /// Context: a folder, dir://PATH, tar://FILE, tar://stdin or git://HOST/REPOSITORY
            context(short = 'c'),
            /// Folder below the context to use instead of it
            context_sub_path,
            /// Platform to build for, such as linux/arm64
            custom_platform(alias = "customPlatform"),
            /// Write the image's digest to a file
            digest_file,
            /// Dockerfile to build [default: Dockerfile]
            dockerfile(short = 'f'),
            /// Number of retries of each request of a pull
            image_download_retry,
            /// Format of the manifest: docker or oci
            image_format,
            /// Has no effect: unpacking a verified layer again changes nothing
            image_fs_extract_retry,
            /// Write NAME@DIGEST of each destination to a file
            image_name_with_digest_file,
            /// Write NAME:TAG@DIGEST of each destination to a file
            image_name_tag_with_digest_file,
            /// Has no effect: --store names the folder of gondola
            kaniko_dir,
            /// Format of the log: text, color or json
            log_format,
            /// Write an OCI image layout to a folder
            oci_layout_path,
            /// Number of retries of each request of a push
            push_retry,
            /// Has no effect: changes are read from the file system's own record
            snapshot_mode(alias = "snapshotMode"),
            /// Write an archive for docker load to a file
            tar_path(alias = "tarPath"),
            /// Level of the log: trace, debug, info, warn, error, fatal or panic
            verbosity(short = 'v'),
        }
        lists {
            /// Add an annotation to the manifest, NAME=VALUE; repeatable
            annotation,
            /// Set an ARG, NAME=VALUE; without a value, it is the environment's; repeatable
            build_arg,
            /// Has no effect: helpers are those that docker's config.json names; repeatable
            credential_helpers,
            /// Push to this name; repeatable
            destination(short = 'd'),
            /// Option for a git context: branch=NAME; single-branch=, depth= and recurse-submodules= have no effect; repeatable
            git,
            /// Has no effect: a layer holds only what its step wrote; repeatable
            ignore_path,
            /// Allow plain http, or https with an unknown certificate, for this registry; repeatable
            insecure_registry,
            /// Add a label to the configuration, NAME=VALUE; repeatable
            label,
            /// Trust this certificate of a registry, REGISTRY=FILE; repeatable
            registry_certificate,
            /// Show this certificate to a registry, REGISTRY=CERTIFICATE,KEY; repeatable
            registry_client_cert,
            /// Pull from OTHER before REGISTRY, REGISTRY=OTHER[;…]; repeatable
            registry_map,
            /// Pull from this mirror before docker.io; repeatable
            registry_mirror,
            /// Give a secret to steps that mount it, id=NAME,src=FILE or id=NAME,env=VARIABLE; repeatable
            secret,
            /// Do not check the certificate of this registry; repeatable
            skip_tls_verify_registry,
            /// Build this stage instead of the last one
            target(value_delimiter = ','),
        }
    }
}
