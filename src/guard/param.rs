//! Ids as parts of a path.

use rocket::request::FromParam;

use crate::error::Error;
use crate::token::{Jti, Sid};

macro_rules! param {
    ($id:ident) => {
        /// As a dynamic part of a path, `/tokens/<id>`. What is no UUID goes to the next route, and is 422 where there
        /// is none, as Rocket has it; a route that takes a `Result` answers it itself.
        ///
        /// ```
        #[doc = concat!("use counterfoil::{Error, ", stringify!($id), "};")]
        ///
        /// #[rocket::get("/ids/<id>")]
        #[doc = concat!("fn id(id: Result<", stringify!($id), ", Error>) -> Result<String, Error> {")]
        ///     Ok(id?.to_string())
        /// }
        /// ```
        impl FromParam<'_> for $id {
            type Error = Error;

            fn from_param(param: &str) -> Result<Self, Error> {
                param.parse()
            }
        }
    };
}

param!(Jti);
param!(Sid);
