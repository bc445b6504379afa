//! From what is to be read by `Arbitrary` to the bytes that it is read from, so that stories can be told to a fuzzer.

/// Can be written so that `Arbitrary` reads the same again.
pub(super) trait Spell {
    fn spell(&self, into: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Spell for $number {
            fn spell(&self, into: &mut Vec<u8>) {
                into.extend(self.to_le_bytes());
            }
        })*
    };
}

numbers!(u8, u16);

impl Spell for bool {
    fn spell(&self, into: &mut Vec<u8>) {
        into.push(u8::from(*self));
    }
}

impl<const N: usize> Spell for [u8; N] {
    fn spell(&self, into: &mut Vec<u8>) {
        into.extend(self);
    }
}

impl<A: Spell, B: Spell> Spell for (A, B) {
    fn spell(&self, into: &mut Vec<u8>) {
        self.0.spell(into);
        self.1.spell(into);
    }
}

impl<T: Spell> Spell for Box<T> {
    fn spell(&self, into: &mut Vec<u8>) {
        (**self).spell(into);
    }
}

impl<T: Spell> Spell for Option<T> {
    fn spell(&self, into: &mut Vec<u8>) {
        self.is_some().spell(into);
        self.iter().for_each(|inner| inner.spell(into));
    }
}

impl<T: Spell> Spell for Vec<T> {
    fn spell(&self, into: &mut Vec<u8>) {
        for item in self {
            true.spell(into);
            item.spell(into);
        }
        false.spell(into);
    }
}

/// `Arbitrary` takes 32 bits for the choice of a variant, and scales them to how many variants there are.
pub(super) fn choice(at: usize, of: usize, into: &mut Vec<u8>) {
    let (at, of) = (at as u64, of as u64);
    // The middle of all the numbers that mean this variant.
    let number = ((2 * at + 1) << 31) / of;
    into.extend((number as u32).to_le_bytes());
}

/// Spells a struct, or an enum by all of its variants in their order.
macro_rules! spelled {
    (struct $name:ident { $($field:ident),* }) => {
        impl $crate::fuzzing::encode::Spell for $name {
            fn spell(&self, into: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.spell(into);)*
            }
        }
    };
    (enum $name:ident { $($variant:ident $(($($item:ident),*))? $({$($field:ident),*})?,)* }) => {
        impl $crate::fuzzing::encode::Spell for $name {
            fn spell(&self, into: &mut Vec<u8>) {
                const ALL: &[&str] = &[$(stringify!($variant)),*];
                let mut choose = |variant| {
                    let at = ALL.iter().position(|name| *name == variant);
                    $crate::fuzzing::encode::choice(at.expect("it is one of them"), ALL.len(), into);
                };
                match self {
                    $(Self::$variant $(($($item),*))? $({$($field),*})? => {
                        choose(stringify!($variant));
                        $($($item.spell(into);)*)?
                        $($($field.spell(into);)*)?
                    })*
                }
            }
        }
    };
}
pub(super) use spelled;
