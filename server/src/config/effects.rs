//! What the table says becomes of each given setting: old names are turned into new ones, settings without effect
//! leave a notice, and what this version cannot honour safely stops the start.

use super::error::ConfigError;
use super::features;
use super::notice::Notice;
use super::settings::{Setting, Settings, default_value};
use super::table::{self, Effect, Kind};
use super::value::Value;

const GATES: &str = "feature-gates";

/// Old names become new ones.
///
/// # Errors
/// The old and the new name are both given; etcd's words.
pub(crate) fn resolve_aliases(settings: &mut Settings, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    let old: Vec<Setting> =
        settings.iter().filter(|s| matches!(s.flag.effect, Effect::Alias(_) | Effect::GateAlias(_))).cloned().collect();
    let gates_text = settings.get(GATES).map(|s| s.text.clone()).unwrap_or_default();
    for setting in old {
        let name = setting.flag.name;
        match setting.flag.effect {
            Effect::Alias(of) => {
                if settings.is_set(of) {
                    return Err(both(name, of));
                }
                notices.push(Notice::Deprecated { flag: name, instead: format!("--{of}") });
                let flag = table::find(of).expect("an alias leads to a row");
                settings.set(Setting { flag, ..setting });
            }
            Effect::GateAlias(feature) => {
                let on = setting.value == Value::Bool(true);
                if gates_text.contains(feature) {
                    let gate = features::is_on(feature, &settings.gates(GATES));
                    return Err(ConfigError::Invalid(format!(
                        "cannot specify both flags: --{name}={on} and --{GATES}={feature}={gate} at the same time, \
                         please just use --{GATES}={feature}={gate}"
                    )));
                }
                notices.push(Notice::Deprecated { flag: name, instead: format!("--{GATES}={feature}={on}") });
                settings.set(Setting {
                    flag: table::find(GATES).expect("in the table"),
                    value: Value::Gates(vec![(feature.to_owned(), on)]),
                    ..setting
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn both(old: &str, new: &str) -> ConfigError {
    if new == "warning-unary-request-duration" {
        return ConfigError::Invalid(format!("both --{old} and --{new} flags are set. Use only --{new}"));
    }
    ConfigError::Invalid(format!("cannot set --{old} and --{new} at the same time, please use --{new} only"))
}

/// Settings that this version refuses or passes over.
///
/// # Errors
/// [`ConfigError::Refused`].
pub(crate) fn judge(settings: &Settings, notices: &mut Vec<Notice>) -> Result<(), ConfigError> {
    for setting in settings.iter() {
        let flag = setting.flag;
        let changed = setting.value != default_value(flag);
        match flag.effect {
            Effect::Refused(topic) if changed => return Err(refused(setting, topic)),
            Effect::NoEffect(_) if flag.kind == Kind::Nothing => notices.push(Notice::Retired(flag.name)),
            Effect::NoEffect(why) if changed => {
                notices.push(Notice::NoEffect { flag: flag.name.to_owned(), value: setting.text.clone(), why })
            }
            _ => {}
        }
    }
    let gates = settings.gates(GATES);
    for name in features::WITHOUT_EFFECT {
        let on = features::is_on(name, &gates);
        if on != features::default_of(name) && gates.iter().any(|(given, _)| given == name) {
            notices.push(Notice::NoEffect {
                flag: format!("{GATES}={name}"),
                value: on.to_string(),
                why: "the gate changes nothing in keepstone",
            });
        }
    }
    Ok(())
}

fn refused(setting: &Setting, topic: &'static str) -> ConfigError {
    let name = setting.flag.name;
    let secret = name.contains("password") || name.contains("user");
    ConfigError::Refused {
        flag: name.to_owned(),
        given: if secret { String::new() } else { format!(" {:?} from {}", setting.text, setting.source) },
        topic,
    }
}
