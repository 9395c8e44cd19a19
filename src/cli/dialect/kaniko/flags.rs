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
            /// Use results of earlier builds, and share them through --cache-repo; false uses none
            cache,
            /// With --cache, share the results of COPY and ADD; false leaves them out
            cache_copy_layers,
            /// With --cache, share the results of RUN; false leaves them out
            cache_run_layers,
            /// Compress kept results
            compressed_caching,
            /// Clean the file system at the end
            cleanup,
            /// Clean the file system before the build
            pre_cleanup,
            /// Show what would be done
            dryrun,
            /// Build outside of a container
            force,
            /// Does nothing
            force_build_metadata,
            /// Leave /var/run out of the image
            ignore_var_run,
            /// The old name of --ignore-var-run
            whitelist_var_run,
            /// Push over plain http
            insecure,
            /// Pull over plain http
            insecure_pull,
            /// Put the time into log lines
            log_timestamp,
            /// Unpack everything at the end
            materialize,
            /// Do not push the image
            no_push,
            /// Look up in --cache-repo, and put nothing there
            no_push_cache,
            /// For strangers' code: use and keep no cache that is not found by its content (gondola's own flag)
            no_shared_caches,
            /// Keep the context between stages
            preserve_context,
            /// A tag that cannot be moved is no failure
            push_ignore_immutable_tag_errors,
            /// Leave times out of the image
            reproducible,
            /// Make one layer
            single_snapshot,
            /// Ask no registry but the mirrors
            skip_default_registry_fallback,
            /// Do not check whether pushing is allowed before the build
            skip_push_permission_check,
            /// Push to whoever answers
            skip_tls_verify,
            /// Pull from whoever answers
            skip_tls_verify_pull,
            /// Does nothing
            skip_unused_stages,
            /// Find changes in another way
            use_new_run,
        }
        values {
            /// A bucket with the context
            bucket(short = 'b'),
            /// A folder with base images
            cache_dir,
            /// The repository that shares results of steps; DESTINATION/cache unless named
            cache_repo,
            /// Whose Go caches steps use, instead of those of the CI's ref or of the context's folder (gondola's own flag)
            cache_scope,
            /// How long results of the repository are used, 336h unless said otherwise
            cache_ttl,
            /// gzip or zstd
            compression,
            /// How hard is compressed
            compression_level,
            /// The context: a folder, dir://, tar://, git://, or tar://stdin
            context(short = 'c'),
            /// A folder in the context
            context_sub_path,
            /// The platform to build for
            custom_platform(alias = "customPlatform"),
            /// Write the digest to a file
            digest_file,
            /// The Dockerfile
            dockerfile(short = 'f'),
            /// How often an image is downloaded again
            image_download_retry,
            /// docker or oci
            image_format,
            /// How often an image is unpacked again
            image_fs_extract_retry,
            /// Write NAME@DIGEST of every destination to a file
            image_name_with_digest_file,
            /// Write NAME:TAG@DIGEST of every destination to a file
            image_name_tag_with_digest_file,
            /// A folder for kaniko itself
            kaniko_dir,
            /// text, color or json
            log_format,
            /// Write an OCI layout
            oci_layout_path,
            /// How often a push is repeated
            push_retry,
            /// How changes are found
            snapshot_mode(alias = "snapshotMode"),
            /// Write an archive for docker load
            tar_path(alias = "tarPath"),
            /// trace, debug, info, warn, error, fatal or panic
            verbosity(short = 'v'),
        }
        lists {
            /// An annotation of the manifest; repeatable
            annotation,
            /// A value of an ARG; repeatable
            build_arg,
            /// Where credentials come from; repeatable
            credential_helpers,
            /// Where to push; repeatable
            destination(short = 'd'),
            /// How a git context is fetched: branch=, single-branch=, depth=, recurse-submodules=, insecure-skip-tls=
            git,
            /// A path that stays out of layers; repeatable
            ignore_path,
            /// A registry without TLS; repeatable
            insecure_registry,
            /// A label; repeatable
            label,
            /// REGISTRY=FILE: a certificate to trust; repeatable
            registry_certificate,
            /// REGISTRY=CERTIFICATE,KEY: a certificate to show; repeatable
            registry_client_cert,
            /// REGISTRY=OTHER;…: pull from there first; repeatable
            registry_map,
            /// A mirror of docker.io; repeatable
            registry_mirror,
            /// id=NAME[,src=FILE|,env=NAME]; repeatable
            secret,
            /// A registry with any certificate; repeatable
            skip_tls_verify_registry,
            /// The stage to build
            target(value_delimiter = ','),
        }
    }
}
