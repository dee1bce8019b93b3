//! Control markings: CUI banners, NOFORN, TLP.
