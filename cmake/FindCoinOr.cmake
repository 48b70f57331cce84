# Finds COIN-OR's solvers (Debian: coinor-libclp-dev, coinor-libcbc-dev), which bring no CMake package along.
# Targets: CoinOr::Clp (linear programs) and CoinOr::Cbc (mixed-integer ones, with all it stands on). A prefix
# of one's own: -DCoinOr_ROOT=DIR.

find_path(CoinOr_INCLUDE_DIR ClpSimplex.hpp PATH_SUFFIXES coin coin-or)
find_path(CoinOr_CBC_INCLUDE_DIR CbcModel.hpp PATH_SUFFIXES coin coin-or)
set(_coinor_needed CoinOr_INCLUDE_DIR CoinOr_CBC_INCLUDE_DIR)
foreach(_coinor_name CoinUtils Clp Osi OsiClp Cgl Cbc)
  find_library(CoinOr_${_coinor_name}_LIBRARY ${_coinor_name})
  list(APPEND _coinor_needed CoinOr_${_coinor_name}_LIBRARY)
endforeach()
mark_as_advanced(${_coinor_needed})

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CoinOr REQUIRED_VARS ${_coinor_needed}
  REASON_FAILURE_MESSAGE "Debian packages: coinor-libclp-dev coinor-libcbc-dev (scripts/setup installs them)")

if(CoinOr_FOUND AND NOT TARGET CoinOr::Clp)
  add_library(CoinOr::Clp INTERFACE IMPORTED)
  set_target_properties(CoinOr::Clp PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${CoinOr_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${CoinOr_Clp_LIBRARY};${CoinOr_CoinUtils_LIBRARY}")
  add_library(CoinOr::Cbc INTERFACE IMPORTED)
  set_target_properties(CoinOr::Cbc PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${CoinOr_CBC_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${CoinOr_Cbc_LIBRARY};${CoinOr_Cgl_LIBRARY};${CoinOr_OsiClp_LIBRARY};${CoinOr_Osi_LIBRARY};CoinOr::Clp")
endif()
