//! `ETCD_*` variables: filled in where the command line is silent, refused where both speak.

use super::error::{ConfigError, Source};
use super::notice::Notice;
use super::settings::Settings;
use super::table::{self, Effect, Flag};

/// The environment, as pairs. Handed in, so that tests have their own.
pub type Environment = [(String, String)];

/// The value of a variable; an empty one counts as absent.
pub(crate) fn lookup<'a>(env: &'a Environment, name: &str) -> Option<&'a str> {
    env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
}

/// Adds what the environment says to what the command line said.
///
/// # Errors
/// [`ConfigError::Conflict`] where both name a setting, else [`ConfigError::BadValue`].
pub(crate) fn fill_in(
    settings: &mut Settings,
    env: &Environment,
    notices: &mut Vec<Notice>,
) -> Result<(), ConfigError> {
    let flags: Vec<(&'static Flag, String)> =
        table::all().filter(|f| f.effect != Effect::Early(false)).map(|f| (f, f.env())).collect();
    // The conflict is named first, even where a value is wrong too: etcd ends there.
    for (flag, variable) in &flags {
        if settings.is_set(flag.name) && env.iter().any(|(n, _)| n == variable) {
            return Err(ConfigError::Conflict { variable: variable.clone(), flag: flag.name });
        }
    }
    for (flag, variable) in &flags {
        if let Some(text) = lookup(env, variable) {
            settings.set_text(flag, text, Source::Env(variable.clone()))?;
            notices.push(Notice::EnvironmentUsed { variable: variable.clone(), value: text.to_owned() });
        }
    }
    for (name, value) in env {
        let ours = name.starts_with("ETCD_") || name.starts_with("KEEPSTONE_");
        let used = !value.is_empty() && flags.iter().any(|(_, variable)| variable == name);
        if ours && !used && !SPECIAL.contains(&name.as_str()) {
            let secret = name.contains("PASSWORD") || name.contains("SECRET");
            let shown = if secret { "(hidden)" } else { value };
            notices.push(Notice::UnknownEnvironment(format!("{name}={shown}")));
        }
    }
    Ok(())
}

/// Read elsewhere: what etcd's test harness sets, the log filter of `logging`, and the switch of `audit`.
const SPECIAL: &[&str] = &["ETCD_UNSUPPORTED_ARCH", "KEEPSTONE_LOG", crate::audit::VARIABLE];
