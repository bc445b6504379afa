//! Setters for the structures of settings.

/// Makes a setter for each field, to be used in a constant, too.
macro_rules! setters {
    ($target:ident { $($setter:ident: $field:ident: $type:ty,)* }) => {
        // Each field has its setter.
        const _: fn($target) = |target| {
            let $target { $($field: _,)* } = target;
        };

        impl $target {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use = "it returns the changed value"]
                pub const fn $setter(self, $field: $type) -> Self {
                    Self { $field, ..self }
                }
            )*
        }
    };
}

pub(super) use setters;
