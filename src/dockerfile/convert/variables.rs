//! The variables that stages have from their bases, for those who look at a file without executing it.

use super::base;
use super::job::{Job, NamedContext, Tools};
use crate::dockerfile::instruction::{Dockerfile, Kind};
use crate::dockerfile::{Globals, Graph, Inputs, Origin};
use crate::image::Image;
use crate::oci::Platform;

/// The variables of bases, as far as those were looked up.
#[derive(Default)]
pub(super) struct BaseVariables(Vec<(Origin, Vec<String>)>);

impl BaseVariables {
    /// The variables of a base, as `NAME=VALUE`; `None` where nothing is known of it.
    pub(super) fn of(&self, base: &Origin) -> Option<Vec<String>> {
        self.0.iter().find(|(origin, _)| origin == base).map(|(_, variables)| variables.clone())
    }

    /// Notes the variables of an image, and those that it sets or declares in each stage on it.
    pub(super) fn add_image(&mut self, origin: &Origin, image: &Image, inputs: &Inputs) {
        let mut variables = image.config.value().config.env.clone();
        // Triggers that cannot be read are told when the file is executed.
        for trigger in base::triggers(image).unwrap_or_default() {
            match trigger.kind {
                Kind::Env(pairs) => {
                    variables.extend(
                        pairs.iter().map(|pair| format!("{}={}", pair.key.text, pair.value.text)),
                    );
                }
                Kind::Arg(definitions) => variables.extend(definitions.iter().map(|definition| {
                    let name = &definition.name.text;
                    let given = inputs.arguments.get(name).map_or("", String::as_str);
                    format!("{name}={given}")
                })),
                _ => {}
            }
        }
        self.0.push((origin.clone(), variables));
    }

    /// Notes that a base has files alone.
    pub(super) fn add_files(&mut self, origin: &Origin) {
        self.0.push((origin.clone(), Vec::new()));
    }
}

/// Looks up the bases of all stages. One that is not to be had is unknown: nobody wants to build on it now.
pub(super) async fn look_up(
    tools: &Tools,
    job: &Job,
    (file, inputs): (&Dockerfile, &Inputs),
) -> BaseVariables {
    let mut known = BaseVariables::default();
    let names = job.recipe.contexts.keys().cloned().collect();
    let Ok(globals) = Globals::evaluate(file, inputs) else { return known };
    let Ok(graph) = Graph::build(file, &globals, inputs, &names) else { return known };
    for node in graph.nodes() {
        let platform = node.platform.as_ref().unwrap_or(&inputs.target);
        match &node.base {
            origin if known.of(origin).is_some() => {}
            origin => match image_of(tools, job, origin, platform).await {
                Some(image) => known.add_image(origin, &image, inputs),
                None if is_of_files(job, origin) => known.add_files(origin),
                None => {}
            },
        }
    }
    known
}

async fn image_of(
    tools: &Tools,
    job: &Job,
    origin: &Origin,
    platform: &Platform,
) -> Option<std::sync::Arc<Image>> {
    match origin {
        Origin::Image(name) => {
            base::find(tools, job, (name, &name.to_string()), platform).await.ok()
        }
        Origin::Context(name) => match job.recipe.contexts.get(name)? {
            NamedContext::Image(place) => base::read_place(tools, job, place, platform).await.ok(),
            NamedContext::Files(_) => None,
        },
        Origin::Scratch | Origin::Stage(_) => None,
    }
}

/// Whether a named context has files, and says nothing of how they run.
fn is_of_files(job: &Job, origin: &Origin) -> bool {
    let Origin::Context(name) = origin else { return false };
    matches!(job.recipe.contexts.get(name), Some(NamedContext::Files(_)))
}
