// asio, included in one way everywhere. Its configuration looks at libstdc++'s own macros
// (_GLIBCXX_HAVE_ALIGNED_ALLOC), which exist only after some standard header: a file that includes
// asio first would allocate with operator new what another frees with free().
#pragma once

// clang-format off: the order is the point
#include <asio.hpp>
#include <cstddef>
// clang-format on
