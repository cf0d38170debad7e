# The Debian package of the extension: `./dev package`, or `cpack -G DEB` in a configured build directory. One per major version of PostgreSQL, named as Debian names them.
string(REGEX MATCH "[0-9]+" pg_major "${PG_VERSION}")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the pgraft authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "high availability for PostgreSQL ${pg_major} from inside the server")
set(CPACK_PACKAGE_DESCRIPTION "A background worker on each server runs Raft; streaming replication carries the data.
Commits survive any minority of failures, and a lost leader is replaced in about a second.
The supervisor and the command line are the Python package pgraft.")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
# The files' places are absolute: the server says where it looks for them.
set(CPACK_SET_DESTDIR ON)
set(CPACK_COMPONENTS_ALL extension documents)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_SERVER_PACKAGE_NAME postgresql-${pg_major}-pgraft)
set(CPACK_DEBIAN_SERVER_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_SERVER_PACKAGE_SECTION database)
set(CPACK_DEBIAN_SERVER_PACKAGE_DEPENDS postgresql-${pg_major})
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
include(CPack)
cpack_add_component(extension GROUP server)
cpack_add_component(documents GROUP server)

install(FILES ${PROJECT_SOURCE_DIR}/LICENSE
  DESTINATION /usr/share/doc/postgresql-${pg_major}-pgraft RENAME copyright COMPONENT documents)
install(FILES ${PROJECT_SOURCE_DIR}/CHANGELOG.md
  DESTINATION /usr/share/doc/postgresql-${pg_major}-pgraft COMPONENT documents)
