//! The program in a container of docker's engine, as in the pods of GitLab, Jenkins and Tekton.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;

use super::engine::Docker;
use super::need::run;

/// Where the program is in that image.
pub const GONDOLA: &str = "/usr/bin/gondola";

/// A container image with the program, what it is linked to, and nothing else, made below a folder.
pub fn image_with_gondola(docker: &Docker, folder: &Path) -> String {
    let tree = folder.join("image");
    let binary = env!("CARGO_BIN_EXE_gondola");
    let linked = run("ldd", &[binary]);
    let words = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for file in words.map(str::to_owned).chain([binary.to_owned()]) {
        let name = if file == binary { GONDOLA } else { file.as_str() };
        let target = tree.join(name.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
    fs::create_dir_all(tree.join("tmp")).unwrap();
    // A mount there takes its permissions.
    fs::set_permissions(tree.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let archive = folder.join("image.tar");
    run("tar", &["-C", tree.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    docker.docker(&["import", archive.to_str().unwrap(), "gondola:test"]);
    "gondola:test".to_owned()
}
