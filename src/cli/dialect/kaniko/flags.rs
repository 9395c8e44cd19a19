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
            positional { $(#[$word_doc:meta])* $words:ident }
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
            #[arg(long, allow_hyphen_values = true $(, $($value_arg)*)?)]
            pub $value: Option<String>,)*
            $($(#[$list_doc])*
            #[arg(long, allow_hyphen_values = true, action = ArgAction::Append $(, $($list_arg)*)?)]
            pub $list: Vec<String>,)*
            $(#[$word_doc])*
            #[arg(value_name = "COMMAND")]
            pub $words: Vec<String>,
        }
    };
}

flags! {
    /// Arguments of `gondola kaniko`, and of gondola when it is called `executor`.
    pub struct KanikoArgs {
        switches {
            /// Reuse results of earlier builds, and share them through --cache-repo; without it every step is executed
            cache,
            /// With --cache, share the results of COPY and ADD; false leaves them out
            cache_copy_layers,
            /// With --cache, share the results of RUN; false leaves them out
            cache_run_layers,
            /// Has no effect: memory does not grow with the layers
            compressed_caching,
            /// Has no effect: the build happens in folders of its own, which always go
            cleanup,
            /// Has no effect: the build happens in folders of its own, which always go
            pre_cleanup,
            /// Say what would be built and executed, and do nothing of it
            dryrun,
            /// Has no effect: builds need no container around them
            force,
            /// Has no effect: metadata is always kept
            force_build_metadata,
            /// Leave /var/run out of what steps add [default: true]; false keeps it
            ignore_var_run,
            /// The old name of --ignore-var-run
            whitelist_var_run,
            /// Push over plain http, or https with an unknown certificate
            insecure,
            /// Pull over plain http, or https with an unknown certificate
            insecure_pull,
            /// Begin each line of the log with the date and the time
            log_timestamp,
            /// Refused: the build does not touch this file system; write --oci-layout-path
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
            /// Put all that the steps add into one layer
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
            /// Context in the place of --context: gs:// and s3:// are refused, with the command that fetches them
            bucket(value_name = "BUCKET", short = 'b'),
            /// Has no effect: base images are kept in the folder that --store names
            cache_dir(value_name = "DIR"),
            /// Repository through which results of steps are shared [default: DESTINATION/cache]
            cache_repo(value_name = "REPOSITORY"),
            /// Share Go caches with builds that give the same name, instead of those of the same CI ref or folder (gondola's own flag)
            cache_scope(value_name = "NAME"),
            /// With --cache, reuse results for this long, such as 6h [default: 336h]
            cache_ttl(value_name = "TIME"),
            /// Compression of new layers: gzip or zstd
            compression(value_name = "HOW"),
            /// Level of compression: 1-9 for gzip, 1-19 for zstd
            compression_level(value_name = "N"),
            /// Context: a folder, dir://PATH, tar://FILE, tar://stdin, git://HOST/REPOSITORY[#REFERENCE[#COMMIT]] or https://HOST/FILE.tar.gz [default: /workspace/]
            context(value_name = "CONTEXT", short = 'c'),
            /// Folder below the context to use instead of it
            context_sub_path(value_name = "DIR"),
            /// Platform to build for, such as linux/arm64
            custom_platform(value_name = "PLATFORM", alias = "customPlatform"),
            /// Write the image's digest to a file
            digest_file(value_name = "FILE"),
            /// Dockerfile to build [default: Dockerfile]
            dockerfile(value_name = "FILE", short = 'f'),
            /// Number of retries of each request of a pull
            image_download_retry(value_name = "N"),
            /// Format of the manifest: docker or oci
            image_format(value_name = "FORMAT"),
            /// Has no effect: unpacking a verified layer again changes nothing
            image_fs_extract_retry(value_name = "N"),
            /// Write NAME@DIGEST of each destination to a file
            image_name_with_digest_file(value_name = "FILE"),
            /// Write NAME:TAG@DIGEST of each destination to a file
            image_name_tag_with_digest_file(value_name = "FILE"),
            /// Folder of kaniko: credentials are read from .docker/config.json in it [default: /kaniko]
            kaniko_dir(value_name = "DIR"),
            /// Format of the log: text has no escape codes, color has bars on a terminal, json an object per line
            log_format(value_name = "FORMAT"),
            /// Write an OCI image layout to a folder
            oci_layout_path(value_name = "DIR"),
            /// Number of retries of each request of a push
            push_retry(value_name = "N"),
            /// Has no effect: changes are read from the file system's own record
            snapshot_mode(value_name = "MODE", alias = "snapshotMode"),
            /// Write an archive for docker load to a file
            tar_path(value_name = "FILE", alias = "tarPath"),
            /// Level of the log: trace and debug say why steps are executed, info is the usual one, warn, error, fatal and panic show warnings and errors alone
            verbosity(value_name = "LEVEL", short = 'v'),
        }
        lists {
            /// Add an annotation to the manifest; repeatable
            annotation(value_name = "NAME=VALUE"),
            /// Set an ARG; without a value, it is the environment's; repeatable
            build_arg(value_name = "NAME[=VALUE]"),
            /// Look for credentials there: env, google, ecr, acr, gitlab; an empty one for none of them [default: all that are installed]; repeatable
            credential_helpers(value_name = "NAME"),
            /// Push to this name; repeatable
            destination(value_name = "NAME", short = 'd'),
            /// Option for a git context: branch=NAME, depth=N, recurse-submodules=true; single-branch= has no effect; repeatable
            git(value_name = "OPTION"),
            /// Leave this path, and all below it, out of what steps add; repeatable
            ignore_path(value_name = "PATH"),
            /// Allow plain http, or https with an unknown certificate, for this registry; repeatable
            insecure_registry(value_name = "HOST[:PORT]"),
            /// Add a label to the configuration; repeatable
            label(value_name = "NAME[=VALUE]"),
            /// Trust this certificate of a registry; repeatable
            registry_certificate(value_name = "REGISTRY=FILE"),
            /// Show this certificate to a registry; repeatable
            registry_client_cert(value_name = "REGISTRY=CERTIFICATE,KEY"),
            /// Pull from OTHER before REGISTRY; repeatable
            registry_map(value_name = "REGISTRY=OTHER[;…]"),
            /// Pull from this mirror before docker.io; repeatable
            registry_mirror(value_name = "HOST[:PORT]"),
            /// Give a secret to steps that mount it, id=NAME,src=FILE or id=NAME,env=VARIABLE; repeatable
            secret(value_name = "SECRET"),
            /// Do not check the certificate of this registry; repeatable
            skip_tls_verify_registry(value_name = "HOST[:PORT]"),
            /// Build this stage instead of the last one; of several, separated by commas, the first makes the image
            target(value_name = "STAGE", value_delimiter = ','),
        }
        positional {
            /// "push PATH": push an archive of docker save, or an OCI image layout, to each --destination. "login REGISTRY": store credentials
            words
        }
    }
}
